using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading;

namespace FlexQ.Tests
{
    internal static class ContextScenarios
    {
        private static readonly string[] s_prompts =
        {
            "Once upon a time", "One day", "The cat \U0001F600", "Lily", "", "Ben and Tom went",
            "\u4f60\u597d", "She said",
        };

        [Scenario("many_sequences")]
        private static void ManySequences()
        {
            const int answerTokens = 12;
            var options = new ContextOptions { Sequences = s_prompts.Length, ContextTokens = 64 };
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (Context context = Shared.Stories.CreateContext(options))
            using (var batch = new Batch())
            {
                List<int>[] answers = s_prompts.Select(one => new List<int>()).ToArray();
                for (int i = 0; i < s_prompts.Length; i++)
                {
                    batch.Add(i, tokenizer.Encode(s_prompts[i]));
                }
                for (int step = 0; step < answerTokens; step++)
                {
                    context.Decode(batch);
                    Check.Equal(s_prompts.Length, context.OutputCount, "output rows");
                    batch.Clear();
                    for (int i = 0; i < s_prompts.Length; i++)
                    {
                        int token = Shared.ArgMax(context.Logits(i));
                        answers[i].Add(token);
                        batch.Add(i, token);
                    }
                }
                for (int i = 0; i < s_prompts.Length; i++)
                {
                    Check.Same(Shared.Answer(Shared.Stories, s_prompts[i], answerTokens),
                        answers[i], "answer " + i);
                }
                Check.Equal(s_prompts.Length, context.Counters.SequencesUsed, "sequences used");
                Check.True(context.Counters.TokensComputed > 8 * answerTokens, "tokens computed");
                batch.Add(0, 1);
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "twice",
                    () => context.Decode(batch), "a sequence twice in a batch");
            }
        }

        [Scenario("logits")]
        private static void Logits()
        {
            var sampling = new SamplingOptions { Temperature = 0.9f, TopK = 30, Seed = 99 };
            var options = new GeneratorOptions { MaxTokens = 10, Sampling = sampling };
            int[] expected;
            using (Context context = Shared.Stories.CreateContext())
            using (Generator generator = context.CreateGenerator(options))
            {
                generator.Start(Shared.Prompt);
                generator.Run();
                expected = generator.Tokens();
            }

            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (Context context = Shared.Stories.CreateContext())
            using (var batch = new Batch())
            {
                var history = new List<int>(tokenizer.Encode(Shared.Prompt));
                int prompt = history.Count;
                batch.Add(0, history.ToArray());
                for (int step = 0; step < expected.Length; step++)
                {
                    context.Decode(batch);
                    float[] logits = context.Logits(0);
                    Check.Equal(512, logits.Length, "logits");
                    Check.Equal(64, context.Embedding(0).Length, "embedding");
                    TokenAlternative drawn = sampling.Sample(
                        logits, history.ToArray(), history.Count);
                    Check.True(Math.Abs(LogSoftmax(logits, drawn.Token) - drawn.LogProbability)
                        < 1e-4, "ln p of the drawn token");
                    history.Add(drawn.Token);
                    batch.Clear();
                    batch.Add(0, drawn.Token);
                }
                Check.Same(expected, history.Skip(prompt), "tokens");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "row",
                    () => context.Logits(1), "a row that is not there");

                float[] flat = { 0, 0, 5, 0 };
                var biased = new SamplingOptions { LogitBias = { [2] = float.NegativeInfinity } };
                Check.Equal(0, biased.Sample(flat, null, 0).Token, "a token that is forbidden");
                flat[1] = float.NaN;
                Check.Fails(ErrorCode.NonFinite, "NON_FINITE", "",
                    () => biased.Sample(flat, null, 0), "NaN");
            }
        }

        private static double LogSoftmax(float[] logits, int token)
        {
            double largest = logits.Max();
            return logits[token] - largest
                - Math.Log(logits.Sum(logit => Math.Exp(logit - largest)));
        }

        [Scenario("fork_and_rewind")]
        private static void ForkAndRewind()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (Context context = Shared.Stories.CreateContext(
                new ContextOptions { Sequences = 2 }))
            using (var batch = new Batch())
            {
                int[] prompt = tokenizer.Encode(Shared.Prompt);
                batch.Add(0, prompt);
                context.Decode(batch);
                float[] logits = context.Logits(0);
                context.Fork(0, 1);
                Check.Equal(prompt.Length, context.SequenceLength(1), "length of the copy");

                // Both go on alike, alone and side by side.
                batch.Clear();
                batch.Add(0, Shared.ArgMax(logits));
                batch.Add(1, Shared.ArgMax(logits));
                context.Decode(batch);
                Check.Same(context.Logits(0), context.Logits(1), "logits of original and copy");

                context.Rewind(1, prompt.Length - 1);
                batch.Clear();
                batch.Add(1, prompt[prompt.Length - 1]);
                context.Decode(batch);
                Check.Same(logits, context.Logits(0), "logits after a rewind");
                context.Rewind(0, 0);
                Check.Equal(0, context.SequenceLength(0), "emptied");
                Check.Equal(-1, context.SequenceLength(2), "a sequence that is not there");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                    () => context.Fork(0, 2), "a fork to nowhere");
            }
        }

        [Scenario("save_and_restore")]
        private static void SaveAndRestore()
        {
            Shared.WithTemporaryFolder(SaveAndRestore);
        }

        private static void SaveAndRestore(string folder)
        {
            string file = Path.Combine(folder, "s\u00e9ance.session");
            byte[] note = { 1, 0, 255 };
            int[] answer = Shared.Answer(Shared.Stories, Shared.Prompt, 40);
            byte[] session;
            using (Context context = Shared.Stories.CreateContext(
                new ContextOptions { Sequences = 2 }))
            {
                using (Generator generator = Shared.Started(context, 15))
                {
                    generator.Run();
                }
                context.SetSequenceNote(0, note);
                context.SaveSequence(0, file);
                session = context.SaveSequence(0);
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "at least one token",
                    () => context.SaveSequence(1), "an empty sequence is saved");
                Check.Fails(ErrorCode.InvalidState, "INVALID_STATE", "empty",
                    () => context.RestoreSequence(0, session), "a sequence that is not empty");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "sequence",
                    () => context.SequenceTokens(2), "tokens of a sequence that is not there");
                Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "",
                    () => context.SaveSequence(0, Path.Combine(folder, "a", "b")), "no folder");
            }
            using (Context context = Shared.Stories.CreateContext(
                new ContextOptions { Sequences = 2 }))
            {
                Check.Equal(0, context.SequenceTokens(0).Length, "tokens of an empty sequence");
                Check.Equal(0, context.SequenceNote(0).Length, "no note");
                context.RestoreSequence(0, file);
                context.RestoreSequence(1, session);
                Check.Same(context.SequenceTokens(0), context.SequenceTokens(1), "tokens");
                Check.Same(session, context.SaveSequence(1), "saved again");
                for (int s = 0; s < 2; s++)
                {
                    Check.Same(note, context.SequenceNote(s), "note");
                    using (Generator generator = context.CreateGenerator(
                        new GeneratorOptions { Sequence = s, MaxTokens = 25 }))
                    {
                        generator.Start(new[] { answer[14] });
                        generator.Run();
                        Check.Same(answer.Skip(15), generator.Tokens(), "the answer goes on");
                    }
                }
                context.Rewind(0, 0);
                session[session.Length - 1] ^= 1;
                Check.Fails(ErrorCode.Corrupt, "CORRUPT", "SHA-256",
                    () => context.RestoreSequence(0, session), "a damaged session");
                Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "nothing",
                    () => context.RestoreSequence(0, Path.Combine(folder, "nothing")), "no file");
                Check.Equal(0, context.SequenceLength(0), "still empty");
                Check.Throws<ArgumentNullException>(
                    () => context.RestoreSequence(0, (byte[])null), "no bytes");
                Check.Throws<ArgumentNullException>(
                    () => context.SetSequenceNote(0, null), "no note");
            }
        }

        [Scenario("threads")]
        private static void Threads()
        {
            const int answerTokens = 40;
            int[][] expected = s_prompts
                .Select(prompt => Shared.Answer(Shared.Stories, prompt, answerTokens)).ToArray();
            var found = new int[s_prompts.Length][];
            Thread[] threads = Enumerable.Range(0, s_prompts.Length).Select(i => new Thread(() =>
            {
                for (int round = 0; round < 5; round++)
                {
                    found[i] = Shared.Answer(Shared.Stories, s_prompts[i], answerTokens);
                }
            })).ToArray();
            foreach (Thread thread in threads)
            {
                thread.Start();
            }
            foreach (Thread thread in threads)
            {
                thread.Join();
            }
            for (int i = 0; i < s_prompts.Length; i++)
            {
                Check.Same(expected[i], found[i] ?? new int[0], "answer of thread " + i);
            }
            OneContextTwoThreads();
        }

        /// <summary>The same for texts to score, on which C itself sees nobody.</summary>
        private static void OneListTwoUsers()
        {
            using (Context context = Shared.Stories.CreateContext())
            using (var continuations = new Continuations())
            {
                continuations.Add(new[] { 1 }, new[] { 2, 3 });
                context.ScoreContinuations(continuations, (done, total) =>
                {
                    Check.Throws<InvalidOperationException>(
                        () => continuations.Clear(), "a second user");
                    return true;
                });
                Check.Equal(1, continuations.Count, "texts");
            }
        }

        /// <summary>A second thread inside a context is turned away.</summary>
        private static void OneContextTwoThreads()
        {
            using (Context context = Shared.Stories.CreateContext())
            using (Generator generator = Shared.Started(context, 3))
            {
                generator.Run(next =>
                {
                    var other = new Thread(() => Check.Fails(
                        ErrorCode.InvalidState, "INVALID_STATE", "",
                        () => context.Rewind(0, 0), "a second thread"));
                    other.Start();
                    other.Join();
                });
                Check.Equal(3, generator.Tokens().Length, "the first thread goes on");
            }
            OneListTwoUsers();
        }
    }
}
