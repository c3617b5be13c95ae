using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using FlexQ;

/// <summary>Continues many prompts at once: Batch.exe MODEL.flexq PROMPT...
/// <para>Each prompt is a sequence of one context; every decode computes the next token of all.
/// </para></summary>
internal static class BatchSample
{
    private const int NewTokens = 32;

    /// <summary>Prompt and answer of one sequence.</summary>
    private sealed class Sequence
    {
        internal List<int> Tokens;
        internal int Computed; // tokens that the context holds
        internal bool HasEnded;
    }

    private static int Main(string[] arguments)
    {
        if (arguments.Length < 2)
        {
            Console.Error.WriteLine("usage: Batch.exe MODEL.flexq PROMPT...");
            return 2;
        }
        Console.OutputEncoding = new UTF8Encoding(false);
        try
        {
            Continue(arguments[0], arguments.Skip(1).ToArray());
            return 0;
        }
        catch (FlexqException failure)
        {
            Console.Error.WriteLine(failure.Name + ": " + failure.Message);
            return 1;
        }
    }

    private static void Continue(string path, string[] prompts)
    {
        var options = new ContextOptions { Sequences = prompts.Length };
        using (Model model = Model.Load(path))
        using (Tokenizer tokenizer = model.CreateTokenizer())
        using (Context context = model.CreateContext(options))
        using (var batch = new Batch())
        {
            Sequence[] sequences = prompts
                .Select(prompt => new Sequence { Tokens = tokenizer.Encode(prompt).ToList() })
                .ToArray();
            for (int i = 0; i < NewTokens && sequences.Any(one => !one.HasEnded); i++)
            {
                Step(model, context, batch, sequences);
            }
            for (int i = 0; i < sequences.Length; i++)
            {
                Console.WriteLine("[{0}] {1}", i, tokenizer.Decode(sequences[i].Tokens.ToArray()));
            }
        }
    }

    /// <summary>One token more for each sequence that has not ended.</summary>
    private static void Step(Model model, Context context, Batch batch, Sequence[] sequences)
    {
        batch.Clear();
        for (int i = 0; i < sequences.Length; i++)
        {
            Sequence one = sequences[i];
            if (!one.HasEnded)
            {
                batch.Add(i, one.Tokens.Skip(one.Computed).ToArray());
                one.Computed = one.Tokens.Count;
            }
        }
        context.Decode(batch);
        var greedy = new SamplingOptions();
        int row = 0;
        foreach (Sequence one in sequences.Where(one => !one.HasEnded))
        {
            int token = greedy.Sample(context.Logits(row++), null, one.Tokens.Count).Token;
            one.HasEnded = model.IsEndToken(token);
            if (!one.HasEnded)
            {
                one.Tokens.Add(token);
            }
        }
    }
}
