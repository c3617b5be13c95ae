using System;
using System.Diagnostics;
using System.Runtime.InteropServices;
using FlexQ.Internal;

namespace FlexQ.Tests
{
    /// <summary>What a streaming callback costs for every token. Two ways: what C takes to call the
    /// binding's callback with a real event, many times over, which is exact; and what a run takes
    /// more with than without a callback, which shows that nothing else comes on top, but is the
    /// small difference of two large times.</summary>
    internal static class OverheadScenario
    {
        private const int Calls = 20000;
        private const double LimitNanoseconds = 5000;

        [Scenario("callback_overhead")]
        private static void Overhead()
        {
            NativeLoader.Load();
            double alone = CallbackAlone();
            double without = double.MaxValue;
            double with = double.MaxValue;
            // The quickest of many, turn about: other work on this machine only ever adds.
            using (Model model = Model.Load(Settings.Stories, new ModelOptions { Threads = 1 }))
            {
                for (int i = 0; i < 15; i++)
                {
                    without = Math.Min(without, NanosecondsPerToken(model, null));
                    with = Math.Min(with, NanosecondsPerToken(model, next => { }));
                }
            }
            Console.Write("[{0:F0} ns a callback; a token {1:F0} ns with, {2:F0} ns without] ",
                alone, with, without);
            Check.True(alone < LimitNanoseconds, "a callback takes " + alone + " ns");
        }

        private static double CallbackAlone()
        {
            long characters = 0;
            using (Context context = Shared.Stories.CreateContext())
            using (Generator generator = Shared.Started(context, 4))
            using (var callbacks = new Callbacks())
            using (var next = new flexq_token_event())
            {
                callbacks.Token = one =>
                {
                    characters += one.Text.Length;
                    return true;
                };
                NextInto(generator, next);
                IntPtr address = flexq_token_event.getCPtr(next);
                long quickest = long.MaxValue;
                for (int i = 0; i < 6; i++)
                {
                    long before = Stopwatch.GetTimestamp();
                    int stopped = call_many_times(
                        Calls, callbacks.NativeToken, address, callbacks.UserData);
                    quickest = Math.Min(quickest, Stopwatch.GetTimestamp() - before);
                    Check.Equal(0, stopped, "callbacks that stop");
                }
                Check.True(characters >= 6 * Calls, "characters seen");
                return quickest * (1e9 / Stopwatch.Frequency) / Calls;
            }
        }

        private static void NextInto(Generator generator, flexq_token_event next)
        {
            using (NativeHandle.Lease lease = generator.Handle.Acquire())
            {
                FlexqNative.flexq_generator_next(lease.Pointer, next);
            }
        }

        private static double NanosecondsPerToken(Model model, Action<TokenEvent> onEvent)
        {
            const int tokens = 200;
            using (Context context = model.CreateContext())
            using (Generator generator = context.CreateGenerator(
                new GeneratorOptions { MaxTokens = tokens, IgnoreEnd = true }))
            {
                generator.Start(Shared.Prompt);
                generator.Next();
                long before = Stopwatch.GetTimestamp();
                generator.Run(onEvent);
                long ticks = Stopwatch.GetTimestamp() - before;
                return ticks * (1e9 / Stopwatch.Frequency) / (tokens - 1);
            }
        }

        [DllImport("flexq_callback_probe")]
        private static extern int call_many_times(
            int count, flexq_token_callback callback, IntPtr tokenEvent, IntPtr userData);
    }
}
