using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace FlexQ.Tests
{
    internal static class EvaluationScenarios
    {
        [Scenario("score")]
        private static void Score()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (Context context = Shared.Stories.CreateContext(
                new ContextOptions { Sequences = 4, ContextTokens = 128 }))
            using (var continuations = new Continuations())
            {
                int[] text = tokenizer.Encode("Once upon a time, there was a little girl");
                long last = 0;
                float[] scores = context.Score(text, (done, total) =>
                {
                    last = total - done;
                    return true;
                });
                Check.Equal(text.Length - 1, scores.Length, "one less than tokens");
                Check.Equal(0L, last, "progress reached its total");
                Check.True(scores.All(score => score <= 0), "ln p is not positive");

                for (int split = 1; split < text.Length; split += 3)
                {
                    continuations.Add(text.Take(split).ToArray(), text.Skip(split).ToArray());
                }
                double[] sums = context.ScoreContinuations(continuations);
                Check.Equal(continuations.Count, sums.Length, "sums");
                for (int i = 0; i < sums.Length; i++)
                {
                    double expected = scores.Skip(3 * i).Sum(score => (double)score);
                    Check.True(Math.Abs(expected - sums[i]) < 1e-3, string.Format(
                        "sum {0}: expected {1}, found {2}", i, expected, sums[i]));
                }
                Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                    () => context.ScoreContinuations(continuations, (done, total) => false),
                    "cancelled");
                continuations.Clear();
                Check.Equal(0, context.ScoreContinuations(continuations).Length, "none");
            }
        }

        [Scenario("evaluate")]
        private static void Evaluate()
        {
            string text = string.Concat(Enumerable.Repeat(
                "Once upon a time there was a girl named Lily. She liked to play. ", 20));
            var windows = new List<double>();
            PerplexityResult perplexity = Evaluation.Perplexity(Shared.Stories, text, 64, 4, null,
                (window, count, nll) =>
                {
                    Check.Equal(windows.Count, window, "window");
                    Check.Equal(4, count, "windows");
                    windows.Add(nll);
                    return true;
                });
            Check.Equal(4, perplexity.Windows, "windows");
            Check.Equal(64, perplexity.WindowTokens, "window tokens");
            Check.True(Math.Abs(windows.Average() - perplexity.MeanNll) < 1e-9, "mean");
            Check.True(Math.Abs(Math.Exp(perplexity.MeanNll) - perplexity.Perplexity) < 1e-9,
                "exp");
            Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                () => Evaluation.Perplexity(
                    Shared.Stories, text, 64, 4, null, (window, count, nll) => false),
                "a callback that cancels");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                () => Evaluation.Perplexity(Shared.Stories, "short", 64), "a short text");

            Choices();
            Model fp16 = Shared.Load(Settings.StoriesFp16);
            ComparisonResult same = Evaluation.Compare(fp16, fp16, text, 64, 4);
            Check.Equal(same.Positions, same.SameTop1, "a model and itself");
            Check.Equal(0.0, same.MeanKl, "their divergence");
            ComparisonResult other = Evaluation.Compare(fp16, Shared.Stories, text, 64, 4);
            Check.Equal(4 * 63L, other.Positions, "positions");
            Check.True(other.MeanKl > 0, "a divergence");
            Check.True(Math.Abs(other.PerplexityB - perplexity.Perplexity)
                < 1e-6 * perplexity.Perplexity, "perplexity of model B");
        }

        private static void Choices()
        {
            string path = Path.Combine(Settings.SourceTree, "tests/data/choice/piqa.jsonl");
            using (Questions questions = Questions.Open("piqa", path))
            {
                Check.True(questions.Count > 0, "questions");
                var results = new List<QuestionResult>();
                bool progressed = false;
                ChoiceResult result = Evaluation.Choices(Shared.Stories, questions, 0, 0, null,
                    (done, total) => progressed = true,
                    one =>
                    {
                        results.Add(one);
                        return true;
                    });
                Check.True(progressed, "progress");
                Check.Equal(questions.Count, result.QuestionCount, "questions asked");
                Check.Equal(questions.Count, results.Count, "questions reported");
                Check.Equal(result.Correct, results.Count(one => one.Best == one.Answer), "right");
                foreach (QuestionResult one in results)
                {
                    Check.Equal(2, one.Scores.Count, "choices");
                    Check.True(one.Scores[one.Best] == one.Scores.Max(), "the best");
                }
                var boom = new FormatException("thrown by a question");
                Check.Throws<FormatException>(
                    () => Evaluation.Choices(Shared.Stories, questions, 0, 0, null, null,
                        one => { throw boom; }),
                    "a callback that throws");
            }
            Check.Fails(ErrorCode.Corrupt, "CORRUPT", "line 1",
                () => Questions.Open("boolq", path), "another task's file");
        }

        [Scenario("quantize")]
        private static void Quantize()
        {
            Shared.WithTemporaryFolder(folder =>
            {
                string path = Path.Combine(folder, "\u00e9\U0001F600.flexq");
                long done = 0;
                long whole = -1;
                var options = new QuantizeOptions
                {
                    Policy = "w6a8",
                    Threads = 1,
                    Progress = (soFar, total) =>
                    {
                        done = soFar;
                        whole = total;
                        return true;
                    },
                };
                Quantizer.Quantize(Settings.StoriesCheckpoint, path, options);
                Check.Equal(whole, done, "progress reached its total");
                Inspect(path);
                using (Model model = Model.Load(path))
                {
                    Check.Equal("w6a8", model.Info.Policy, "policy");
                    Check.True(Shared.Answer(model, Shared.Prompt, 5).Length == 5, "an answer");
                }
                Failures(folder);
            });
        }

        private static void Inspect(string path)
        {
            using (Source source = Source.FromMemory(File.ReadAllBytes(path)))
            {
                Bundle bundle = Bundle.Open(source);
                // The bundle keeps what it reads from.
                source.Dispose();
                GC.Collect();
                Check.Contains("\"w6a8\"", bundle.Json(), "JSON");
                bool verified = false;
                bundle.Verify(1, (done, total) => verified = true);
                Check.True(verified, "progress of verify");
                Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                    () => bundle.Verify(0, (done, total) => false), "verify cancelled");
                bundle.Dispose();
            }
        }

        private static void Failures(string folder)
        {
            string path = Path.Combine(folder, "cancelled.flexq");
            var options = new QuantizeOptions { Progress = (done, total) => false };
            Check.Fails(ErrorCode.Cancelled, "CANCELLED", "",
                () => Quantizer.Quantize(Settings.StoriesCheckpoint, path, options), "cancelled");
            using (var cancellation = new CancellationTokenSource())
            {
                options.Progress = (done, total) =>
                {
                    cancellation.Cancel();
                    return true;
                };
                Task task = Quantizer.QuantizeAsync(
                    Settings.StoriesCheckpoint, path, options, cancellation.Token);
                Check.Throws<AggregateException>(() => task.Wait(), "a cancelled task");
                Check.Equal(TaskStatus.Canceled, task.Status, "status");
            }
            Check.True(!File.Exists(path), "nothing is left of it");
            Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "nowhere",
                () => Quantizer.Quantize("/nowhere", path), "a missing checkpoint");
            Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "w5",
                () => Quantizer.Quantize(
                    Settings.StoriesCheckpoint, path, new QuantizeOptions { Policy = "w5" }),
                "an unknown policy");
            Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "llama-9",
                () => Quantizer.QuantizeSynthetic("llama-9", path), "an unknown shape");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "calibration",
                () => Quantizer.Quantize(Settings.StoriesCheckpoint, path, new QuantizeOptions
                {
                    Policy = "auto",
                    PerplexityBudget = 0.01,
                    CalibrationText = "too short",
                }),
                "a short calibration text");
            Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                () => Quantizer.Quantize(Settings.StoriesCheckpoint, path,
                    new QuantizeOptions { A8Fraction = 2 }),
                "a share beyond 1");
        }
    }
}
