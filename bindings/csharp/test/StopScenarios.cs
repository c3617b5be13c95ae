using System;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;

namespace FlexQ.Tests
{
    internal static class StopScenarios
    {
        [Scenario("stop_in_callback")]
        private static void StopInCallback()
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                using (Generator generator = Shared.Started(context, 50))
                {
                    int events = 0;
                    FinishReason reason = generator.RunWhile(next => ++events < 4);
                    Check.Equal(FinishReason.Cancelled, reason, "finish reason");
                    Check.Equal(4, events, "events");
                    Check.Equal(4, generator.Tokens().Length, "tokens stay readable");
                }
                Shared.StillWorks(context);
            }
        }

        [Scenario("exception_in_callback")]
        private static void ExceptionInCallback()
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                var boom = new FormatException("thrown by a callback");
                using (Generator generator = Shared.Started(context, 50))
                {
                    int events = 0;
                    var thrown = Check.Throws<FormatException>(
                        () => generator.Run(next =>
                        {
                            if (++events == 3)
                            {
                                ThrowFromHere(boom);
                            }
                        }),
                        "run");
                    Check.True(ReferenceEquals(boom, thrown), "the exception is the one thrown");
                    Check.Contains(nameof(ThrowFromHere), thrown.StackTrace, "its stack");
                    Check.Equal(3, events, "no event after it");
                }
                Shared.StillWorks(context);
                context.Rewind(0, 0);
                Check.Throws<FormatException>(
                    () => context.Score(new[] { 1, 2, 3 }, (done, total) => { throw boom; }),
                    "progress of a score");
                Shared.StillWorks(context);
                CallbackMayNotCallBack(context);
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void ThrowFromHere(Exception thrown)
        {
            throw thrown;
        }

        /// <summary>A call into the context that a callback runs for fails, and does no harm.
        /// </summary>
        private static void CallbackMayNotCallBack(Context context)
        {
            context.Rewind(0, 0);
            using (Generator generator = Shared.Started(context, 4))
            {
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "",
                    () => generator.Run(next => context.Rewind(0, 0)), "rewind in a callback");
            }
            Shared.StillWorks(context);
        }

        [Scenario("cancel_other_thread")]
        private static void CancelFromOtherThread()
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                using (Generator generator = Shared.Started(context, 400))
                {
                    int events = 0;
                    int afterCancel = 0;
                    bool cancelled = false;
                    Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                        () => generator.Run(next =>
                        {
                            afterCancel += cancelled ? 1 : 0;
                            if (++events == 5)
                            {
                                var other = new Thread(generator.Cancel);
                                other.Start();
                                other.Join();
                                cancelled = true;
                            }
                        }),
                        "a cancelled run");
                    Check.True(afterCancel <= 1, "events after the cancel: " + afterCancel);
                    Check.Equal(FinishReason.Cancelled, generator.Stats.FinishReason, "reason");
                }
                Shared.StillWorks(context);
                CancelBeforeStart(context);
                CancelABatch(context);
            }
        }

        private static void CancelBeforeStart(Context context)
        {
            context.Rewind(0, 0);
            using (Generator generator = context.CreateGenerator())
            {
                generator.Cancel();
                generator.Start(Shared.Prompt);
                Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                    () => generator.Run(), "cancelled before the start");
            }
        }

        private static void CancelABatch(Context context)
        {
            context.Rewind(0, 0);
            using (var batch = new Batch())
            {
                batch.Add(0, new[] { 1, 2, 3 });
                var other = new Thread(batch.Cancel);
                other.Start();
                other.Join();
                Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                    () => context.Decode(batch), "a cancelled batch");
                Check.Equal(0, context.SequenceLength(0), "the sequence is as before");
                batch.Clear();
                batch.Add(0, new[] { 1, 2, 3 });
                context.Decode(batch);
                Check.Equal(3, context.SequenceLength(0), "after Clear it decodes");
            }
        }

        [Scenario("cancel_token")]
        private static void CancelByToken()
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                using (var cancellation = new CancellationTokenSource())
                using (Generator generator = Shared.Started(context, 400))
                {
                    int events = 0;
                    Task<FinishReason> run = generator.RunAsync(
                        next =>
                        {
                            if (++events == 5)
                            {
                                cancellation.Cancel();
                            }
                        },
                        cancellation.Token);
                    var thrown = Check.Throws<AggregateException>(() => run.Wait(), "the task");
                    Check.True(thrown.InnerException is TaskCanceledException, "its exception");
                    Check.Equal(TaskStatus.Canceled, run.Status, "status");
                    Check.True(events <= 6, "events after the cancel: " + (events - 5));
                }
                Shared.StillWorks(context);
                FromOutside(context);
            }
        }

        private static void FromOutside(Context context)
        {
            context.Rewind(0, 0);
            using (var cancellation = new CancellationTokenSource())
            using (var reached = new ManualResetEventSlim())
            using (Generator generator = Shared.Started(context, 400))
            {
                Task<FinishReason> run = generator.RunAsync(
                    next =>
                    {
                        reached.Set();
                        Thread.Sleep(1);
                    },
                    cancellation.Token);
                Check.True(reached.Wait(60000), "a token");
                cancellation.Cancel();
                Check.Throws<AggregateException>(() => run.Wait(), "the task");
                Check.Equal(TaskStatus.Canceled, run.Status, "status");
                Check.True(generator.Tokens().Length < 400, "it ended early");
            }
            Shared.StillWorks(context);
        }

        [Scenario("deadline")]
        private static void Deadline()
        {
            var options = new GeneratorOptions
            {
                MaxTokens = 400,
                IgnoreEnd = true,
                Deadline = TimeSpan.FromMilliseconds(30),
            };
            using (Context context = Shared.Stories.CreateContext())
            {
                using (Generator generator = context.CreateGenerator(options))
                {
                    generator.Start(Shared.Prompt);
                    Check.Fails(ErrorCode.DeadlineExceeded, "DEADLINE_EXCEEDED", "",
                        () => generator.Run(next => Thread.Sleep(2)), "a slow answer");
                    Check.Equal(FinishReason.Deadline, generator.Stats.FinishReason, "reason");
                    int tokens = generator.Tokens().Length;
                    Check.True(tokens < 400, "tokens: " + tokens);
                }
                Shared.StillWorks(context);
            }
        }
    }
}
