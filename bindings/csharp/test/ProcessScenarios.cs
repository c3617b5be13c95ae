using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;

namespace FlexQ.Tests
{
    internal static class ProcessScenarios
    {
        [Scenario("log_callback")]
        private static void Log()
        {
            var messages = new List<string>();
            Action<LogLevel, string> log = (level, text) =>
            {
                messages.Add(level + " " + text);
                throw new InvalidOperationException("a logger that throws harms nobody");
            };
            try
            {
                FlexqLibrary.SetLog(log);
                GC.Collect();
                Model.Load(Settings.Stories).Dispose();
                Check.Equal(1, messages.Count, "messages");
                Check.Contains("Info device auto: the CPU", messages[0], "the message");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "max_level",
                    () => FlexqLibrary.SetLog(log, (LogLevel)9), "an unknown level");
                FlexqLibrary.SetLog(log, LogLevel.Warning);
                Model.Load(Settings.Stories).Dispose();
                Check.Equal(1, messages.Count, "messages of other levels");
            }
            finally
            {
                FlexqLibrary.SetLog(null);
            }
            Model.Load(Settings.Stories).Dispose();
            Check.Equal(1, messages.Count, "messages after silence");
            Check.Contains("compiler:", FlexqLibrary.BuildInfo, "build info");
        }

        [Scenario("allocator")]
        private static void Allocator()
        {
            Child.Run("allocator", Settings.Natives);
        }

        [Scenario("open_close_flat")]
        private static void OpenCloseFlat()
        {
            long grown = long.Parse(
                Child.Run("open_close", Settings.Natives), CultureInfo.InvariantCulture);
            Console.Write("[{0} KiB] ", grown / 1024);
            Check.True(grown < 5 << 20, "resident memory grew by " + grown + " bytes");
            Child.Run("finalizers", Settings.Natives);
        }

        [Scenario("abi_version")]
        private static void AbiVersion()
        {
            Check.Equal(FlexqLibrary.RequiredAbiVersion, FlexqLibrary.AbiVersion, "ABI version");
            string message = Child.Run("load", Settings.OtherAbi);
            Check.Contains("ABI version 999", message, "the number found");
            Check.Contains("ABI version " + FlexqLibrary.RequiredAbiVersion, message,
                "the number expected");
            Check.Contains(Settings.OtherAbi, message, "where");
        }

        [Scenario("loader_paths")]
        private static void LoaderPaths()
        {
            Check.Contains("loaded from " + Settings.Natives,
                Child.Run("load", Settings.Natives), "by the environment variable");
            Check.Contains(Settings.Natives, Child.Run("property", "/nowhere"),
                "by the property, which goes before");
            foreach (string first in Child.FirstCalls.Keys)
            {
                Child.Run("first", Settings.Natives, null, "first=" + first);
            }
            Child.Run("retry", "/nowhere");
            string message = Child.Run("load", "/nowhere/at/all");
            Check.Contains("FLEXQ_LIBRARY_PATH", message, "who said so");
            Check.Contains("/nowhere/at/all/libflexq.so.0: no such file", message, "the path");

            Shared.WithTemporaryFolder(folder =>
            {
                string program = CopyAssemblies(folder);
                NowhereAtAll(folder, program);
                FromSystem(program);
                FromResources(folder, program);
                Beside(folder, program);
            });
        }

        private static void FromSystem(string program)
        {
            Check.Contains("loaded from the system\n",
                Child.Run("load", null, program, null, Settings.Natives), "LD_LIBRARY_PATH");
        }

        private static string CopyAssemblies(string folder)
        {
            string here = Path.GetDirectoryName(typeof(ProcessScenarios).Assembly.Location);
            foreach (string name in new[] { "FlexQ.dll", "FlexQ.Tests.exe" })
            {
                File.Copy(Path.Combine(here, name), Path.Combine(folder, name));
            }
            return Path.Combine(folder, "FlexQ.Tests.exe");
        }

        private static void NowhereAtAll(string folder, string program)
        {
            string message = Child.Run("load", null, program);
            string natives = Path.Combine("runtimes", "linux-x64", "native");
            foreach (string path in new[]
            {
                Path.Combine(folder, "libflexq.so.0"),
                Path.Combine(folder, natives, "libflexq.so.0"),
                Path.GetFullPath(Path.Combine(folder, "..", "..", natives, "libflexq.so.0")),
                "assembly FlexQ.Natives: not found",
                "\n  libflexq.so.0: ",
            })
            {
                Check.Contains(path, message, "every path that was tried");
            }
        }

        private static void FromResources(string folder, string program)
        {
            string assembly = Path.Combine(folder, "FlexQ.Natives.dll");
            File.Copy(Path.Combine(Settings.ResourceAssembly, "FlexQ.Natives.dll"), assembly);
            string output = Child.Run("load", null, program);
            string extracted = Path.Combine(Path.GetTempPath(), "flexq-");
            Check.Contains("loaded from " + extracted, output, "from resources");
            string[] lines = output.Split('\n');
            Check.True(!Directory.Exists(lines[0].Substring("loaded from ".Length)),
                "the extracted folder is gone");
            File.Delete(assembly);
        }

        /// <summary>In runtimes/linux-x64/native, then beside the assembly, which goes before: the
        /// one that the loader names is the one that is called.</summary>
        private static void Beside(string folder, string program)
        {
            string natives = Path.Combine(folder, "runtimes", "linux-x64", "native");
            Directory.CreateDirectory(natives);
            CopyNatives(natives);
            Check.Contains("loaded from " + natives + "\n", Child.Run("load", null, program),
                "in runtimes");
            CopyNatives(folder);
            Check.Contains("loaded from " + folder + "\n", Child.Run("load", null, program),
                "beside the assembly");
            Check.Contains("loaded from " + Settings.Natives,
                Child.Run("load", Settings.Natives, program), "the environment variable first");
        }

        private static void CopyNatives(string folder)
        {
            foreach (string name in new[] { "libflexq.so.0", "libflexq_csharp.so" })
            {
                File.Copy(Path.Combine(Settings.Natives, name), Path.Combine(folder, name));
            }
        }
    }
}
