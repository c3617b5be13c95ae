using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace FlexQ.Tests
{
    internal static class EngineScenarios
    {
        /// <summary>Tokens of a long answer, and so many of these that no test waits for all.
        /// </summary>
        private const int Long = 400;

        private const int Many = 64;

        [Scenario("engine_requests")]
        private static void Requests()
        {
            const int threads = 4;
            const int each = 8;
            using (Context context = CreateContext(6))
            using (Engine engine = context.CreateEngine(new EngineOptions { StepTokens = 24 }))
            {
                Task<List<string[]>>[] answers = Enumerable.Range(0, threads)
                    .Select(thread => Task.Factory.StartNew(
                        () => Answers(engine, thread * each, each),
                        CancellationToken.None, TaskCreationOptions.LongRunning,
                        TaskScheduler.Default))
                    .ToArray();
                Check.True(Task.WaitAll(answers, 120000), "all answers");
                for (int i = 0; i < threads * each; i++)
                {
                    Check.Same(Alone(Encode(Prompt(i)), Options(i)),
                        answers[i / each].Result[i % each], "request " + i);
                }
            }
        }

        /// <summary>Submits all of them, then reads one after the other.</summary>
        private static List<string[]> Answers(Engine engine, int first, int count)
        {
            Request[] requests = Enumerable.Range(first, count)
                .Select(i => engine.Submit(Prompt(i), Options(i))).ToArray();
            var answers = new List<string[]>();
            foreach (Request request in requests)
            {
                using (request)
                {
                    answers.Add(answers.Count % 2 == 0 ? Read(request) : ReadByTimeouts(request));
                }
            }
            return answers;
        }

        private static string Prompt(int i)
        {
            return Shared.Prompt + ", there was a little girl named Lily. "
                + string.Concat(Enumerable.Repeat("She had a \U0001F600 cat. ", i % 4));
        }

        private static GeneratorOptions Options(int i)
        {
            GeneratorOptions options = Tokens(16 + (i % 5));
            options.Sampling = new SamplingOptions { Temperature = 0.9f, Seed = (ulong)i };
            options.Alternatives = i % 3;
            options.Priority = i % 4;
            options.Format = i % 4 == 0 ? "json" : "text";
            return options;
        }

        [Scenario("engine_chat")]
        private static void Conversation()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (var chat = new Chat())
            using (Context context = CreateContext(2))
            using (Engine engine = context.CreateEngine())
            {
                chat.Add("system", "Be brief.").Add("user", "Tell me a story \U0001F600");
                int[] conversation = tokenizer.EncodeChat(chat, "vicuna");
                GeneratorOptions withStops = Tokens(30);
                withStops.AddChatStops(tokenizer, "vicuna");
                string[] expected = Alone(conversation, withStops);
                using (Request byChat = engine.SubmitChat(chat, "vicuna", Tokens(30)))
                using (Request byTokens = engine.SubmitTokens(conversation, withStops))
                {
                    Check.Same(conversation, byChat.PromptTokens(), "the prompt");
                    Check.Same(expected, Read(byChat), "by conversation");
                    Check.Same(expected, Read(byTokens), "by tokens");
                }
                Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "template",
                    () => engine.SubmitChat(chat), "a model without a template");
                // Not held after a failure.
                chat.Clear();
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                    () => engine.SubmitChat(chat, "vicuna"), "no message");
            }
        }

        [Scenario("engine_cancel")]
        private static void Cancel()
        {
            using (Context context = CreateContext(1))
            using (Engine engine = context.CreateEngine())
            {
                Request[] requests = SubmitMany(engine);
                // Behind all of these.
                GeneratorOptions inTime = Tokens(Long);
                inTime.Deadline = TimeSpan.FromMilliseconds(1);
                using (Request last = engine.Submit(Shared.Prompt, Tokens(Long)))
                using (Request late = engine.Submit(Shared.Prompt, inTime))
                {
                    Check.True(last.Next(TimeSpan.Zero) == null, "no event yet");
                    Check.Equal(FinishReason.None, last.Stats.FinishReason, "waits");
                    last.Cancel();
                    Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                        () => last.Next(Timeout.InfiniteTimeSpan), "cancelled while it waits");
                    Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "finished",
                        () => last.Next(), "read after the end");
                    Check.Equal(FinishReason.Cancelled, last.Stats.FinishReason, "reason");
                    Check.Equal(0, last.Stats.GeneratedTokenCount, "tokens");
                    Check.Fails(ErrorCode.DeadlineExceeded, "DEADLINE_EXCEEDED", "1 ms",
                        () => late.Next(), "a deadline while it waits");
                    Check.Equal(FinishReason.Deadline, late.Stats.FinishReason, "reason");
                }

                // Those that run; one may be done before its cancel.
                int cancelled = 0;
                foreach (Request running in requests.Take(6))
                {
                    Check.Equal(FinishReason.None, running.Next().FinishReason, "runs");
                    running.Cancel();
                    cancelled += EndsCancelled(running) ? 1 : 0;
                }
                Check.True(cancelled > 0, "cancelled while it ran");

                // A loop that is left cancels, too.
                foreach (TokenEvent next in requests[6].Events())
                {
                    Check.Equal(FinishReason.None, next.FinishReason, "runs");
                    break;
                }
                EndsCancelled(requests[6]);
                Check.Same(Alone(Encode(Shared.Prompt), Tokens(Long)), Read(requests[7]),
                    "one that was not cancelled");
                DisposeAll(requests);
            }
        }

        [Scenario("engine_close")]
        private static void Close()
        {
            for (int round = 0; round < 20; round++)
            {
                using (Context context = CreateContext(1))
                {
                    CloseWhileReading(context, round % 2 == 0, round % 4 < 2 ? 5 : 0);
                    // It is free again.
                    context.Rewind(0, 0);
                }
            }
        }

        private static void CloseWhileReading(Context context, bool closesEngine, int delay)
        {
            Engine engine = context.CreateEngine();
            Request[] requests = SubmitMany(engine);
            Request waiting = engine.Submit(Shared.Prompt, Tokens(Long));
            using (var started = new ManualResetEventSlim())
            {
                Task<string[]> reader = Task.Factory.StartNew(
                    () =>
                    {
                        started.Set();
                        return Read(waiting);
                    },
                    CancellationToken.None, TaskCreationOptions.LongRunning,
                    TaskScheduler.Default);
                Check.True(started.Wait(60000), "the reader");
                Thread.Sleep(delay);
                (closesEngine ? (IDisposable)engine : waiting).Dispose();
                Exception end = Check.Throws<AggregateException>(
                    () => reader.Wait(60000), "the wait ends").InnerException;
                var failure = end as FlexqException;
                // Disposed before the call began, or while it waited.
                Check.True(failure != null ? failure.Code == ErrorCode.Cancelled
                    : !closesEngine && end is ObjectDisposedException, "found " + end);
            }
            if (closesEngine)
            {
                Check.Equal(FinishReason.Cancelled, waiting.Stats.FinishReason, "readable");
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "finished",
                    () => waiting.Next(), "read after the end");
                Check.True(EndsCancelled(requests[Many - 1]), "the others end, too");
                waiting.Dispose();
            }
            else
            {
                Check.Equal(FinishReason.None, requests[0].Next().FinishReason, "others go on");
                engine.Dispose();
            }
            DisposeAll(requests);
        }

        [Scenario("engine_errors")]
        private static void Errors()
        {
            using (Context context = CreateContext(1))
            {
                Check.Fails(ErrorCode.UnknownOption, "UNKNOWN_OPTION", "page_size",
                    () => context.CreateEngine(
                        new EngineOptions { Named = { ["page_size"] = "16" } }),
                    "an unknown key");
                Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "found yes",
                    () => context.CreateEngine(
                        new EngineOptions { Named = { ["prefix_reuse"] = "yes" } }),
                    "an unknown value");
                Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "found 10000",
                    () => context.CreateEngine(new EngineOptions { StepTokens = 10000 }),
                    "a step of more than a chunk");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "waiting requests",
                    () => context.CreateEngine(new EngineOptions { Queue = -1 }),
                    "a negative queue");
                using (Engine engine = context.CreateEngine(new EngineOptions { Queue = 1 }))
                {
                    Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "",
                        () => context.CreateEngine(), "a second engine");
                    Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "",
                        () => context.Rewind(0, 0), "a call on the context");
                    PromptErrors(engine);
                    QueueFull(engine);
                }
                context.Rewind(0, 0);
            }
        }

        private static void PromptErrors(Engine engine)
        {
            GeneratorOptions sequence = Tokens(5);
            sequence.Sequence = 1;
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "sequence",
                () => engine.Submit(Shared.Prompt, sequence, EncodeFlags.Plain), "a sequence");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "token",
                () => engine.SubmitTokens(new int[0]), "no token");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "512",
                () => engine.SubmitTokens(new[] { 512 }), "a token outside the vocabulary");
            Check.Fails(ErrorCode.ContextFull, "CONTEXT_FULL", "1000",
                () => engine.SubmitTokens(new int[1000]), "a prompt that is too long");
        }

        private static void QueueFull(Engine engine)
        {
            var requests = new List<Request>();
            Check.Fails(ErrorCode.QueueFull, "QUEUE_FULL", "waiting requests",
                () =>
                {
                    while (requests.Count < 1000)
                    {
                        requests.Add(engine.Submit(Shared.Prompt, Tokens(Long)));
                    }
                },
                "a full queue");
            Check.Equal(1L, engine.Metrics.Refused, "refused");
            DisposeAll(requests);
            // The engine sees in its next step that they are closed.
            Request next = null;
            Until("room in the queue", () =>
            {
                try
                {
                    next = engine.Submit(Shared.Prompt, Tokens(5));
                }
                catch (FlexqException full) when (full.Code == ErrorCode.QueueFull)
                {
                    // Later.
                }
                return next != null;
            });
            using (next)
            {
                Check.Same(Alone(Encode(Shared.Prompt), Tokens(5)), Read(next), "the next one");
            }
        }

        [Scenario("engine_metrics")]
        private static void Metrics()
        {
            foreach (bool reuses in new[] { true, false })
            {
                var options = new EngineOptions
                {
                    Named = { ["prefix_reuse"] = reuses ? "on" : "off" },
                };
                using (Context context = CreateContext(2))
                using (Engine engine = context.CreateEngine(options))
                {
                    RequestStats first = StatsOfOne(engine);
                    RequestStats second = StatsOfOne(engine);
                    Check.Equal(0, first.ReusedTokenCount, "reused by the first");
                    Check.Equal(reuses, second.ReusedTokenCount > 0, "reused by the second");
                    int prompt = first.PromptTokenCount + second.PromptTokenCount;
                    int reused = second.ReusedTokenCount;
                    Check.True(reused < second.PromptTokenCount, "one is always computed");

                    // The metrics are of the end of a step, the last events from within it.
                    EngineMetrics found = null;
                    Until("two requests finished", () =>
                    {
                        found = engine.Metrics;
                        return found.Finished == 2;
                    });
                    Check.Equal(2L, found.Submitted, "submitted");
                    Check.Equal(0, found.Waiting + found.Running, "under way");
                    Check.Equal(0L, found.Cancelled + found.DeadlinesExceeded + found.Failed
                        + found.Refused + found.Preemptions, "what did not happen");
                    Check.Equal(2 * 512 / 16, found.PagesTotal, "pages");
                    Check.Equal(0, found.PagesUsed, "pages used");
                    Check.Equal(reuses, found.PagesCached > 0, "pages cached");
                    Check.Equal((long)prompt, found.PromptTokens, "prompt tokens");
                    Check.Equal((long)reused, found.ReusedTokens, "reused tokens");
                    Check.Equal(40L, found.GeneratedTokens, "generated tokens");
                    // Nobody needed the keys and values of the last tokens.
                    Check.Equal(prompt - reused + (2L * 19), found.ComputedTokens, "computed");
                    Check.True(found.Steps >= 40 && found.StepNanoseconds > 0, "steps");
                }
            }
        }

        private static RequestStats StatsOfOne(Engine engine)
        {
            using (Request request = engine.Submit(Prompt(3), Tokens(20)))
            {
                Check.Equal(21, Read(request).Length, "events");
                RequestStats stats = request.Stats;
                Check.Equal(FinishReason.Length, stats.FinishReason, "reason");
                Check.Equal(request.PromptTokens().Length, stats.PromptTokenCount, "prompt");
                Check.Equal(20, stats.GeneratedTokenCount, "tokens");
                Check.Equal(0, stats.PreemptionCount, "preemptions");
                Check.True(stats.QueuedNanoseconds > 0
                    && stats.TimeToFirstTokenNanoseconds > stats.QueuedNanoseconds
                    && stats.TotalNanoseconds > stats.TimeToFirstTokenNanoseconds, "times");
                Check.True(stats.TokensPerSecond > 0, "tokens per second");
                return stats;
            }
        }

        private static Context CreateContext(int sequences)
        {
            return Shared.Stories.CreateContext(new ContextOptions { Sequences = sequences });
        }

        /// <summary>An answer of exactly so many tokens.</summary>
        private static GeneratorOptions Tokens(int count)
        {
            return new GeneratorOptions { MaxTokens = count, IgnoreEnd = true };
        }

        private static int[] Encode(string text)
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            {
                return tokenizer.Encode(text);
            }
        }

        private static Request[] SubmitMany(Engine engine)
        {
            return Enumerable.Range(0, Many)
                .Select(i => engine.Submit(Shared.Prompt, Tokens(Long))).ToArray();
        }

        private static void DisposeAll(IEnumerable<Request> requests)
        {
            foreach (Request request in requests)
            {
                request.Dispose();
            }
        }

        /// <summary>The events of a generator on a context of its own.</summary>
        private static string[] Alone(int[] prompt, GeneratorOptions options)
        {
            using (Context context = CreateContext(1))
            using (Generator generator = context.CreateGenerator(options))
            {
                generator.Start(prompt);
                return generator.Events().Select(Describe).ToArray();
            }
        }

        private static string[] Read(Request request)
        {
            return request.Events().Select(Describe).ToArray();
        }

        private static string[] ReadByTimeouts(Request request)
        {
            var events = new List<TokenEvent>();
            while (events.Count == 0 || events.Last().FinishReason == FinishReason.None)
            {
                TokenEvent next = request.Next(TimeSpan.FromMilliseconds(2));
                if (next != null)
                {
                    events.Add(next);
                }
            }
            return events.Select(Describe).ToArray();
        }

        /// <summary>Everything that an event says.</summary>
        private static string Describe(TokenEvent next)
        {
            return string.Format("{0} {1} {2} '{3}' {4:R} {5}", next.FinishReason, next.Token,
                next.Position, next.Text, next.LogProbability,
                string.Join(" ", next.Alternatives.Select(one => string.Format(
                    "{0}:{1:R}", one.Token, one.LogProbability))));
        }

        /// <summary>Reads to the end: whether that is Cancelled.</summary>
        private static bool EndsCancelled(Request request)
        {
            try
            {
                Read(request);
                return false;
            }
            catch (FlexqException thrown) when (thrown.Code == ErrorCode.Cancelled)
            {
                return true;
            }
        }

        private static void Until(string what, Func<bool> condition)
        {
            var clock = Stopwatch.StartNew();
            while (!condition())
            {
                Check.True(clock.ElapsedMilliseconds < 60000, what);
                Thread.Sleep(1);
            }
        }
    }
}
