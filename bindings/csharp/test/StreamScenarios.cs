using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace FlexQ.Tests
{
    internal static class StreamScenarios
    {
        private const int MaxTokens = 60;

        [Scenario("stream_callback")]
        private static void Callback()
        {
            var text = new StringBuilder();
            int caller = Thread.CurrentThread.ManagedThreadId;
            using (Context context = Shared.Load(Settings.Scripted).CreateContext())
            using (Generator generator = Started(context))
            {
                var events = new List<TokenEvent>();
                FinishReason reason = generator.Run(next =>
                {
                    Check.Equal(caller, Thread.CurrentThread.ManagedThreadId, "thread");
                    Check.True(!next.Text.Contains("\ufffd") || next.Token < 0,
                        "a piece is whole characters");
                    text.Append(next.Text);
                    events.Add(next);
                });
                Check.Equal(FinishReason.Length, reason, "finish reason");
                Check.Equal(generator.Text(), text.ToString(), "the pieces together");
                Check.Contains("\U0001F600", text.ToString(), "an emoji in the answer");
                Check.Equal(reason, events.Last().FinishReason, "reason in the last event");
                Check.Equal(MaxTokens, events.Count(next => next.Token >= 0), "tokens");
                Check.Equal(MaxTokens, generator.Stats.GeneratedTokenCount, "counted tokens");
                Check.True(generator.Stats.DecodeNanoseconds > 0, "decode time");
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "",
                    () => generator.Run(), "a second run");
            }
        }

        [Scenario("stream_iterator")]
        private static void Iterator()
        {
            Model model = Shared.Load(Settings.Scripted);
            using (Context context = model.CreateContext())
            {
                using (Generator generator = Started(context))
                {
                    string text = string.Concat(generator.Events().Select(next => next.Text));
                    Check.Equal(generator.Text(), text, "the pieces together");
                    Check.Equal(FinishReason.Length, generator.Stats.FinishReason, "reason");
                }
                context.Rewind(0, 0);
                using (Generator generator = Started(context))
                {
                    foreach (TokenEvent next in generator.Events())
                    {
                        if (next.Position > 10)
                        {
                            break;
                        }
                    }
                    int tokens = generator.Tokens().Length;
                    Check.True(tokens > 0 && tokens < MaxTokens, "left early");
                    Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                        () => generator.Next(), "a generator that was left");
                }
                context.Rewind(0, 0);
                using (Generator generator = Started(context))
                {
                    generator.Run();
                    Check.Equal(MaxTokens, generator.Tokens().Length, "the next answer");
                }
            }
        }

        [Scenario("stream_async")]
        private static void Async()
        {
            var text = new StringBuilder();
            using (Context context = Shared.Load(Settings.Scripted).CreateContext())
            {
                using (Generator generator = Started(context))
                {
                    Task<FinishReason> run = generator.RunAsync(next => text.Append(next.Text));
                    Check.Equal(FinishReason.Length, run.Result, "finish reason");
                    Check.Equal(generator.Text(), text.ToString(), "the pieces together");
                }
                context.Rewind(0, 0);
                using (Generator generator = Started(context))
                {
                    var boom = new FormatException("in a task");
                    Task<FinishReason> run = generator.RunAsync(next => { throw boom; });
                    var thrown = Check.Throws<AggregateException>(() => run.Wait(), "a task");
                    Check.True(ReferenceEquals(boom, thrown.InnerException), "the same exception");
                }
            }
        }

        [Scenario("token_events")]
        private static void Events()
        {
            var options = new GeneratorOptions { MaxTokens = 12, Alternatives = 5 };
            using (Context context = Shared.Stories.CreateContext())
            using (Generator generator = context.CreateGenerator(options))
            {
                generator.Start(Shared.Prompt);
                var events = new List<TokenEvent>();
                generator.Run(events.Add);
                TokenEvent[] tokens = events.Where(next => next.Token >= 0).ToArray();
                int[] prompt = generator.PromptTokens();
                Check.Same(generator.Tokens(), tokens.Select(next => next.Token), "token ids");
                Check.Same(Enumerable.Range(prompt.Length, 12),
                    tokens.Select(next => next.Position), "positions");
                foreach (TokenEvent next in tokens)
                {
                    Check.Equal(5, next.Alternatives.Count, "alternatives");
                    Check.Equal(next.Token, next.Alternatives[0].Token, "greedy: the first one");
                    Check.Equal(next.LogProbability, next.Alternatives[0].LogProbability,
                        "its ln p");
                    Check.Same(next.Alternatives.Select(one => one.LogProbability)
                        .OrderByDescending(one => one),
                        next.Alternatives.Select(one => one.LogProbability), "descending");
                    Check.True(next.LogProbability <= 0, "ln p is not positive");
                }
                SameScores(prompt, tokens);
                Check.Equal(-1, events.Last().Token, "token of the last event");
            }
            StopsAreRead();
        }

        /// <summary>The events' log-probabilities are those of the text as a whole.</summary>
        private static void SameScores(int[] prompt, TokenEvent[] tokens)
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                int[] whole = prompt.Concat(tokens.Select(next => next.Token)).ToArray();
                float[] scores = context.Score(whole);
                for (int i = 0; i < tokens.Length; i++)
                {
                    float difference = scores[prompt.Length - 1 + i] - tokens[i].LogProbability;
                    Check.True(Math.Abs(difference) < 1e-4f, "ln p of token " + i);
                }
            }
        }

        [Scenario("json_answer")]
        private static void JsonAnswer()
        {
            using (Context context = Shared.Stories.CreateContext())
            {
                foreach (int n in new[] { 2, 3, 12, 40 })
                {
                    var options = new GeneratorOptions
                    {
                        MaxTokens = n,
                        Format = "json",
                        Priority = 100,
                        Sampling = new SamplingOptions { Temperature = 1 },
                    };
                    using (Generator generator = context.CreateGenerator(options))
                    {
                        generator.Start(Shared.Prompt);
                        Check.Equal(FinishReason.Stop, generator.Run(), "the end of an object");
                        string text = generator.Text().Trim();
                        Check.True(text[0] == '{' && text[text.Length - 1] == '}', text);
                        Check.True(n > 2 || text == "{}", text);
                    }
                    context.Rewind(0, 0);
                }
                Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "yaml",
                    () => context.CreateGenerator(new GeneratorOptions { Format = "yaml" }),
                    "an unknown format");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "priority",
                    () => context.CreateGenerator(new GeneratorOptions { Priority = 101 }),
                    "a priority out of range");
            }
        }

        private static void StopsAreRead()
        {
            using (Context context = Shared.Load(Settings.Scripted).CreateContext())
            {
                var options = new GeneratorOptions { MaxTokens = MaxTokens };
                options.StopTexts.Add("\U0001F600");
                using (Generator generator = context.CreateGenerator(options))
                {
                    generator.Start("Hello");
                    Check.Equal(FinishReason.Stop, generator.Run(), "a stop text");
                    Check.True(!generator.Text().Contains("\U0001F600"), "the text ends before it");
                }
                context.Rewind(0, 0);
                options.StopTexts.Clear();
                options.StopTokens.Add(3 + 0xf0);
                using (Generator generator = context.CreateGenerator(options))
                {
                    generator.Start("Hello");
                    Check.Equal(FinishReason.Stop, generator.Run(), "a stop token");
                    context.Rewind(0, 0);
                }
                options.IgnoreEnd = true;
                using (Generator generator = context.CreateGenerator(options))
                {
                    generator.Start("Hello");
                    Check.Equal(FinishReason.Length, generator.Run(), "stop tokens ignored");
                }
            }
        }

        private static Generator Started(Context context)
        {
            Generator generator = context.CreateGenerator(
                new GeneratorOptions { MaxTokens = MaxTokens });
            generator.Start("Hello");
            return generator;
        }
    }
}
