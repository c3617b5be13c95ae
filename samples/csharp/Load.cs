using System;
using FlexQ;

/// <summary>What a model will take, then the model, with progress: Load.exe MODEL.flexq.</summary>
internal static class LoadSample
{
    private static int Main(string[] arguments)
    {
        if (arguments.Length != 1)
        {
            Console.Error.WriteLine("usage: Load.exe MODEL.flexq");
            return 2;
        }
        try
        {
            using (Source source = Source.Open(arguments[0]))
            {
                PrintPlan(Model.Plan(source));
                var options = new ModelOptions { Progress = PrintProgress };
                using (Model model = Model.Load(source, options))
                {
                    Console.Error.WriteLine();
                    PrintModel(model);
                }
            }
            return 0;
        }
        catch (FlexqException failure)
        {
            Console.Error.WriteLine(failure.Name + ": " + failure.Message);
            return 1;
        }
    }

    private static bool PrintProgress(long done, long total)
    {
        Console.Error.Write("\rloading: {0,3}%", total > 0 ? 100 * done / total : 100);
        return true; // false would cancel
    }

    private static void PrintPlan(ModelPlan plan)
    {
        Console.WriteLine("plan for {0}: {1} bytes", plan.Device, plan.TotalBytes);
        Console.WriteLine("  weights {0}, KV cache {1} ({2} tokens), workspace {3}",
            plan.WeightBytes, plan.KvBytes, plan.ContextTokens, plan.WorkspaceBytes);
    }

    private static void PrintModel(Model model)
    {
        ModelInfo info = model.Info;
        Console.WriteLine("model: {0} parameters, {1} layers, vocabulary {2}",
            info.ParameterCount, info.Layers, info.VocabularySize);
        Console.WriteLine(
            "policy {0}, {1:F3} bits per weight, on {2} with {3} kernels, {4} threads",
            info.Policy, info.BitsPerWeight, info.Device, info.Kernels, info.Threads);
        foreach (TensorInfo tensor in model.Tensors())
        {
            Console.WriteLine("  {0,-48} {1,6} x {2,-6} w{3}a{4}", tensor.Name,
                tensor.Rows, tensor.Columns, tensor.WeightBits, tensor.ActivationBits);
        }
    }
}
