using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reflection;

namespace FlexQ.Tests
{
    /// <summary>Runs every scenario of bindings/test/scenarios.txt, in its order; a scenario
    /// without a test, and a test without a scenario, fail. FlexQ.Tests.exe NAME=VALUE..., or
    /// FlexQ.Tests.exe child NAME for what needs a process of its own.</summary>
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            if (arguments.Length >= 2 && arguments[0] == "child")
            {
                Settings.Read(arguments.Skip(2));
                return Child.Do(arguments[1]);
            }
            Settings.Read(arguments);

            Dictionary<string, MethodInfo> tests = FindTests();
            string[] scenarios = ReadScenarios();
            var failures = new List<string>();
            failures.AddRange(scenarios.Where(name => !tests.ContainsKey(name))
                .Select(name => name + ": a scenario without a test"));
            failures.AddRange(tests.Keys.Where(name => !scenarios.Contains(name))
                .Select(name => name + ": a test without a scenario"));

            int passed = 0;
            var clock = Stopwatch.StartNew();
            foreach (string name in scenarios.Where(tests.ContainsKey))
            {
                if (Settings.Only != null && Settings.Only != name)
                {
                    continue;
                }
                string failure = Run(name, tests[name]);
                if (failure == null)
                {
                    passed++;
                }
                else
                {
                    failures.Add(failure);
                }
            }
            Shared.Dispose();

            foreach (string failure in failures)
            {
                Console.WriteLine("FAILED " + failure);
            }
            Console.WriteLine("{0} of {1} scenarios passed, {2} failures, {3:F1} s",
                passed, scenarios.Length, failures.Count, clock.Elapsed.TotalSeconds);
            return failures.Count == 0 ? 0 : 1;
        }

        private static Dictionary<string, MethodInfo> FindTests()
        {
            const BindingFlags all =
                BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public;
            return Assembly.GetExecutingAssembly().GetTypes()
                .SelectMany(type => type.GetMethods(all))
                .Where(method => method.GetCustomAttribute<ScenarioAttribute>() != null)
                .ToDictionary(method => method.GetCustomAttribute<ScenarioAttribute>().Name);
        }

        private static string[] ReadScenarios()
        {
            return File.ReadAllLines(
                Path.Combine(Settings.SourceTree, "bindings/test/scenarios.txt"))
                .Where(line => line.Length > 0 && line[0] != '#')
                .Select(line => line.Split(' ')[0])
                .ToArray();
        }

        private static string Run(string name, MethodInfo test)
        {
            Console.Write(name.PadRight(24));
            Console.Out.Flush();
            var clock = Stopwatch.StartNew();
            string failure = null;
            try
            {
                ((Action)Delegate.CreateDelegate(typeof(Action), test))();
            }
            catch (Exception thrown)
            {
                failure = name + ": " + thrown;
            }
            Console.WriteLine(
                "{0} {1,6} ms", failure == null ? "ok" : "FAILED", clock.ElapsedMilliseconds);
            return failure;
        }
    }
}
