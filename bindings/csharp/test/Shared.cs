using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace FlexQ.Tests
{
    /// <summary>What many scenarios use: models that are loaded once, and the short ways to an
    /// answer.</summary>
    internal static class Shared
    {
        internal const string Prompt = "Once upon a time";

        private static readonly Dictionary<string, Model> s_models =
            new Dictionary<string, Model>();

        /// <summary>stories260k, policy flexq.</summary>
        internal static Model Stories
        {
            get { return Load(Settings.Stories); }
        }

        internal static Model Load(string path)
        {
            Model model;
            if (!s_models.TryGetValue(path, out model))
            {
                model = Model.Load(path);
                s_models[path] = model;
            }
            return model;
        }

        /// <summary>The greedy answer in a context of its own.</summary>
        internal static int[] Answer(Model model, string prompt, int maxTokens)
        {
            using (Context context = model.CreateContext())
            using (Generator generator = context.CreateGenerator(
                new GeneratorOptions { MaxTokens = maxTokens }))
            {
                generator.Start(prompt);
                generator.Run();
                return generator.Tokens();
            }
        }

        /// <summary>A generator that has been started on stories260k.</summary>
        internal static Generator Started(Context context, int maxTokens)
        {
            Generator generator = context.CreateGenerator(
                new GeneratorOptions { MaxTokens = maxTokens });
            generator.Start(Prompt);
            return generator;
        }

        /// <summary>The context still works, and gives what it gave before.</summary>
        internal static void StillWorks(Context context)
        {
            context.Rewind(0, 0);
            using (Generator generator = Started(context, 8))
            {
                generator.Run();
                Check.Same(Answer(Stories, Prompt, 8), generator.Tokens(), "the next answer");
            }
        }

        internal static int ArgMax(float[] logits)
        {
            return Array.IndexOf(logits, logits.Max());
        }

        /// <summary>A path for a file that the action may make; it is deleted afterwards.</summary>
        internal static void WithTemporaryFile(Action<string> action)
        {
            string path = Path.GetTempFileName();
            try
            {
                action(path);
            }
            finally
            {
                File.Delete(path);
            }
        }

        /// <summary>A fresh folder; it is deleted afterwards.</summary>
        internal static void WithTemporaryFolder(Action<string> action)
        {
            string folder = Path.Combine(Path.GetTempPath(), "flexq-tests-" + Guid.NewGuid());
            Directory.CreateDirectory(folder);
            try
            {
                action(folder);
            }
            finally
            {
                Directory.Delete(folder, true);
            }
        }

        internal static void Dispose()
        {
            foreach (Model model in s_models.Values)
            {
                model.Dispose();
            }
            s_models.Clear();
        }
    }
}
