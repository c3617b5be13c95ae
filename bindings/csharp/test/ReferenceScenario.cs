using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using FlexQ.Internal;

namespace FlexQ.Tests
{
    /// <summary>prompts.tsv through the public API, line for line against the C program
    /// bindings_reference: id, prompt bytes, prompt ids, answer ids, answer bytes.</summary>
    internal static class ReferenceScenario
    {
        [Scenario("reference_tokens")]
        private static void Run()
        {
            string prompts = Path.Combine(Settings.SourceTree, "bindings/test/prompts.tsv");
            string[] expected = Child.Output(Settings.Reference, Settings.Bundles, prompts)
                .Split(new[] { '\n' }, StringSplitOptions.RemoveEmptyEntries);
            string[] cases = File.ReadAllLines(prompts, Encoding.UTF8)
                .Where(line => line.Length > 0 && line[0] != '#').ToArray();
            Check.True(cases.Length >= 10, "at least ten cases");
            Check.Same(expected, cases.Select(Answer), "lines");
        }

        private static string Answer(string line)
        {
            string[] fields = line.Split('\t');
            Check.Equal(8, fields.Length, "fields of " + fields[0]);
            Model model = Shared.Load(
                Path.Combine(Settings.Bundles, fields[1] + "-" + fields[2] + ".flexq"));
            var options = new GeneratorOptions
            {
                MaxTokens = int.Parse(fields[6], CultureInfo.InvariantCulture),
                Sampling = new SamplingOptions
                {
                    Seed = ulong.Parse(fields[3], CultureInfo.InvariantCulture),
                    Temperature = float.Parse(fields[4], CultureInfo.InvariantCulture),
                    TopK = int.Parse(fields[5], CultureInfo.InvariantCulture),
                },
            };
            using (Context context = model.CreateContext())
            using (Generator generator = context.CreateGenerator(options))
            {
                generator.Start(fields[7]);
                long promptBytes = FlexqNative.flexq_csharp_last_text_bytes();
                int textBytes = 0;
                var text = new StringBuilder();
                generator.Run(next =>
                {
                    textBytes += next.TextByteCount;
                    text.Append(next.Text);
                });
                byte[] answer = generator.TextUtf8();
                Check.Equal(answer.Length, textBytes, fields[0] + ": bytes of all pieces");
                Check.Same(answer, Encoding.UTF8.GetBytes(text.ToString()),
                    fields[0] + ": the pieces as strings");
                return string.Join("\t", fields[0], promptBytes.ToString(),
                    string.Join(",", generator.PromptTokens()),
                    string.Join(",", generator.Tokens()),
                    string.Concat(answer.Select(one => one.ToString("x2"))));
            }
        }
    }
}
