using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;

namespace FlexQ.Tests
{
    /// <summary>What needs a process of its own, since it changes the whole process or must be the
    /// first to use the library: FlexQ.Tests.exe child NAME. Exit code 0, and what was seen on
    /// standard output.</summary>
    internal static class Child
    {
        private const string TimeoutSeconds = "500";

        /// <summary>What may be the first call into the library.</summary>
        internal static readonly Dictionary<string, Action> FirstCalls =
            new Dictionary<string, Action>
            {
                ["Version"] = () => Check.Contains(".", FlexqLibrary.Version, "version"),
                ["AbiVersion"] = () => Check.True(FlexqLibrary.AbiVersion > 0, "ABI version"),
                ["BuildInfo"] = () => Check.Contains(":", FlexqLibrary.BuildInfo, "build info"),
                ["SetLog"] = () => FlexqLibrary.SetLog((level, text) => { }),
                ["SetAllocator"] = () => FlexqLibrary.SetAllocator(null, null),
                ["Device.Count"] = () => Check.True(Device.Count > 0, "devices"),
                ["Device.Info"] = () => Check.Equal("cpu", Device.Info(0).Id, "device"),
                ["Sample"] = () => Check.Equal(
                    1, new SamplingOptions().Sample(new float[] { 0, 1 }, null, 0).Token, "token"),
                ["Source"] = () => Source.Open(Settings.Stories).Dispose(),
                ["Chat"] = () => new Chat().Dispose(),
                ["Questions"] = () => Fails(() => Questions.Open("piqa", "/nowhere")),
                ["Quantize"] = () => Fails(() => Quantizer.Quantize("/nowhere", "/nowhere/out")),
                ["Plan"] = () => Rejects(() => Model.Plan(null), PlanOfStories),
                ["Perplexity"] = () => Rejects(
                    () => Evaluation.Perplexity(null, "text", 8), PerplexityOfStories),
            };

        internal static int Do(string name)
        {
            switch (name)
            {
                case "load":
                    return PrintLoad();
                case "property":
                    NativeLoader.LibraryPath = Settings.Natives;
                    Console.WriteLine(NativeLoader.LoadedFrom);
                    Check.Throws<InvalidOperationException>(
                        () => NativeLoader.LibraryPath = "/tmp", "a path after loading");
                    return 0;
                case "allocator":
                    return Allocator();
                case "open_close":
                    return OpenClose();
                case "finalizers":
                    return Finalizers();
                case "retry":
                    return Retry();
                case "first":
                    FirstCalls[Settings.First]();
                    return 0;
                default:
                    throw new ArgumentException("no child " + name);
            }
        }

        private static void Fails(Action call)
        {
            try
            {
                call();
            }
            catch (FlexqException)
            {
                return;
            }
            throw new CheckFailedException("expected an exception of the library");
        }

        /// <summary>A wrong first call does no harm to a right second one.</summary>
        private static void Rejects(Action wrong, Action right)
        {
            try
            {
                wrong();
            }
            catch (ArgumentNullException)
            {
                right();
                return;
            }
            throw new CheckFailedException("expected an ArgumentNullException");
        }

        private static void PlanOfStories()
        {
            using (Source source = Source.Open(Settings.Stories))
            {
                Check.True(Model.Plan(source).TotalBytes > 0, "a plan");
            }
        }

        private static void PerplexityOfStories()
        {
            using (Model model = Model.Load(Settings.Stories))
            {
                string text = string.Join(" ", Enumerable.Repeat(Shared.Prompt, 4));
                Check.Equal(1, Evaluation.Perplexity(model, text, 8, 1).Windows, "windows");
            }
        }

        /// <summary>Runs this program again as a child.</summary>
        /// <param name="name">What it does.</param>
        /// <param name="libraryPath">FLEXQ_LIBRARY_PATH; null: not set.</param>
        /// <param name="program">Another copy of this program; null: this one.</param>
        /// <param name="more">A further argument NAME=VALUE.</param>
        /// <param name="systemPath">LD_LIBRARY_PATH.</param>
        internal static string Run(string name, string libraryPath, string program = null,
            string more = null, string systemPath = "")
        {
            program = program ?? typeof(Child).Assembly.Location;
            string mono = Process.GetCurrentProcess().MainModule.FileName;
            return Output(mono, new[] { program, "child", name }.Concat(Settings.Arguments())
                .Concat(more == null ? new string[0] : new[] { more }),
                libraryPath, systemPath);
        }

        internal static string Output(string program, params string[] arguments)
        {
            return Output(program, arguments, Settings.Natives, "");
        }

        private static string Output(string program, IEnumerable<string> arguments,
            string libraryPath, string systemPath)
        {
            var start = new ProcessStartInfo("timeout")
            {
                Arguments = string.Join(" ", new[] { TimeoutSeconds, program }
                    .Concat(arguments).Select(one => "\"" + one + "\"")),
                UseShellExecute = false,
                RedirectStandardOutput = true,
                StandardOutputEncoding = new UTF8Encoding(false),
            };
            start.EnvironmentVariables.Remove("FLEXQ_LIBRARY_PATH");
            start.EnvironmentVariables["LD_LIBRARY_PATH"] = systemPath;
            if (libraryPath != null)
            {
                start.EnvironmentVariables["FLEXQ_LIBRARY_PATH"] = libraryPath;
            }
            using (Process process = Process.Start(start))
            {
                string output = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                Check.Equal(0, process.ExitCode, "exit code of " + start.Arguments + "\n" + output);
                return output;
            }
        }

        /// <summary>What fails for want of the libraries works once it is said where they are.
        /// </summary>
        private static int Retry()
        {
            foreach (KeyValuePair<string, Action> call in FirstCalls)
            {
                Check.Throws<DllNotFoundException>(call.Value, call.Key);
            }
            NativeLoader.LibraryPath = Settings.Natives;
            foreach (Action call in FirstCalls.Values)
            {
                call();
            }
            return 0;
        }

        /// <summary>Where the libraries were loaded from, or why they were not.</summary>
        private static int PrintLoad()
        {
            try
            {
                Console.WriteLine("loaded from " + NativeLoader.LoadedFrom);
                Console.WriteLine("version " + FlexqLibrary.Version);
                OneCopyIsMapped();
            }
            catch (DllNotFoundException failure)
            {
                Console.WriteLine(failure.Message);
                // Not remembered as broken: it is tried again, with the same answer.
                Check.Throws<DllNotFoundException>(() => new Batch(), "the second use");
            }
            return 0;
        }

        /// <summary>What is called lies where the loader says, and no other copy is in the
        /// process.</summary>
        private static void OneCopyIsMapped()
        {
            string[] mapped = File.ReadAllLines("/proc/self/maps")
                .Where(line => line.Contains("/libflexq"))
                .Select(line => line.Substring(line.IndexOf('/'))).Distinct().ToArray();
            Check.Equal(2, mapped.Length, string.Join(", ", mapped));
            if (NativeLoader.LoadedFrom != "the system")
            {
                Check.True(mapped.All(path => path.StartsWith(NativeLoader.LoadedFrom + "/")),
                    string.Join(", ", mapped));
            }
        }

        private static int Allocator()
        {
            long used = 0;
            long calls = 0;
            bool refuse = false;
            AllocateCallback allocate = (count, alignment) =>
            {
                if (refuse)
                {
                    throw new OutOfMemoryException();
                }
                IntPtr block;
                Check.Equal(0, posix_memalign(out block, Math.Max(8, alignment), count), "memory");
                Interlocked.Add(ref used, count);
                Interlocked.Increment(ref calls);
                return block;
            };
            FreeCallback free_ = (memory, count) =>
            {
                free(memory);
                Interlocked.Add(ref used, -count);
            };
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                () => FlexqLibrary.SetAllocator(allocate, null), "only one callback");
            FlexqLibrary.SetAllocator(allocate, free_);
            using (Model model = Model.Load(Settings.Stories))
            using (Context context = model.CreateContext())
            {
                Check.True(used >= model.Info.WeightBytes, "weights come from the callback");
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "",
                    () => FlexqLibrary.SetAllocator(null, null), "while buffers are in use");
                GC.Collect();
                Check.Equal(20, Shared.Answer(model, Shared.Prompt, 20).Length, "an answer");
            }
            Check.True(calls > 2, "calls");
            Check.Equal(0L, used, "bytes not given back");
            refuse = true;
            Check.Fails(ErrorCode.OutOfMemory, "OUT_OF_MEMORY", "",
                () => Model.Load(Settings.Stories), "a callback that throws");
            FlexqLibrary.SetAllocator(null, null);
            using (Model.Load(Settings.Stories))
            {
                Check.Equal(0L, used, "bytes from the callback");
            }
            return 0;
        }

        /// <summary>10,000 cycles after a warm-up; prints by how many bytes resident memory grew.
        /// </summary>
        private static int OpenClose()
        {
            byte[] bundle = File.ReadAllBytes(Settings.Scripted);
            var options = new ModelOptions { Threads = 1 };
            var contextOptions = new ContextOptions { ContextTokens = 32 };
            for (int i = 0; i < 1500; i++)
            {
                Cycle(bundle, options, contextOptions);
            }
            GC.Collect();
            GC.WaitForPendingFinalizers();
            long before = ResidentBytes();
            for (int i = 0; i < 10000; i++)
            {
                Cycle(bundle, options, contextOptions);
            }
            GC.Collect();
            GC.WaitForPendingFinalizers();
            Check.Equal(0L, Internal.NativeHandle.OpenCount, "native handles");
            Console.WriteLine(ResidentBytes() - before);
            return 0;
        }

        private static void Cycle(
            byte[] bundle, ModelOptions options, ContextOptions contextOptions)
        {
            using (Source source = Source.FromMemory(bundle))
            using (Model model = Model.Load(source, options))
            using (Tokenizer tokenizer = model.CreateTokenizer())
            using (Context context = model.CreateContext(contextOptions))
            using (Generator generator = context.CreateGenerator())
            {
                generator.Start("Hi");
                generator.RunWhile(next => false);
            }
        }

        /// <summary>Objects that nobody closes are freed once nobody can reach them; an engine can
        /// be reached through its requests.</summary>
        private static int Finalizers()
        {
            var requests = new List<Request>();
            var thread = new Thread(() =>
            {
                var options = new GeneratorOptions { MaxTokens = 200, IgnoreEnd = true };
                for (int i = 0; i < 10; i++)
                {
                    Context context = Model.Load(Settings.Scripted).CreateContext();
                    requests.Add(context.CreateEngine().Submit("Hi", options));
                }
                for (int i = 0; i < 50; i++)
                {
                    Context context = Model.Load(Settings.Scripted).CreateContext();
                    context.CreateGenerator();
                    Bundle.Open(Source.FromMemory(File.ReadAllBytes(Settings.Scripted)));
                }
            });
            thread.Start();
            thread.Join();
            GC.Collect();
            GC.WaitForPendingFinalizers();
            foreach (Request request in requests)
            {
                Check.Equal(FinishReason.Length, request.Events().Last().FinishReason,
                    "a request that alone holds its engine");
            }
            requests.Clear();
            for (int i = 0; i < 50 && Internal.NativeHandle.OpenCount > 10; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                Thread.Sleep(10);
            }
            // Mono scans stacks conservatively: a few may be held by stale addresses.
            Check.True(Internal.NativeHandle.OpenCount <= 10,
                "handles left of 290: " + Internal.NativeHandle.OpenCount);
            return 0;
        }

        private static long ResidentBytes()
        {
            string[] fields = File.ReadAllText("/proc/self/statm").Split(' ');
            return long.Parse(fields[1]) * Environment.SystemPageSize;
        }

        [DllImport("libc.so.6")]
        private static extern int posix_memalign(out IntPtr block, long alignment, long size);

        [DllImport("libc.so.6")]
        private static extern void free(IntPtr block);
    }
}
