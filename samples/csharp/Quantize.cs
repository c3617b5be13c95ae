using System;
using System.Text;
using FlexQ;

/// <summary>Turns a Hugging Face checkpoint into a bundle and checks it:
/// Quantize.exe CHECKPOINT_DIR OUT.flexq.</summary>
internal static class QuantizeSample
{
    private static int Main(string[] arguments)
    {
        if (arguments.Length != 2)
        {
            Console.Error.WriteLine("usage: Quantize.exe CHECKPOINT_DIR OUT.flexq");
            return 2;
        }
        Console.OutputEncoding = new UTF8Encoding(false);
        try
        {
            var options = new QuantizeOptions
            {
                Policy = "flexq",
                Progress = (done, total) => PrintProgress("quantizing", done, total),
            };
            Quantizer.Quantize(arguments[0], arguments[1], options);
            Console.Error.WriteLine();
            Check(arguments[1]);
            return 0;
        }
        catch (FlexqException failure)
        {
            Console.Error.WriteLine(failure.Name + ": " + failure.Message);
            return 1;
        }
    }

    /// <summary>Reads the whole bundle, then prints what it says about itself.</summary>
    private static void Check(string path)
    {
        using (Source source = Source.Open(path))
        using (Bundle bundle = Bundle.Open(source))
        {
            bundle.Verify(0, (done, total) => PrintProgress("verifying", done, total));
            Console.Error.WriteLine();
            Console.WriteLine(bundle.Json());
        }
    }

    private static bool PrintProgress(string what, long done, long total)
    {
        Console.Error.Write("\r{0}: {1,3}%", what, total > 0 ? 100 * done / total : 100);
        return true; // false would cancel, and leave what was at OUT.flexq before
    }
}
