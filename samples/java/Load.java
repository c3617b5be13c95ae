import java.nio.file.Path;
import org.flexq.FlexqException;
import org.flexq.Model;
import org.flexq.ModelInfo;
import org.flexq.ModelOptions;
import org.flexq.ModelPlan;
import org.flexq.Source;
import org.flexq.TensorInfo;

/** What a model will take, then the model, with progress: Load MODEL.flexq. */
public final class Load {
  private Load() {}

  private static boolean printProgress(long done, long total) {
    System.err.printf("\rloading: %3d%%", total > 0 ? 100 * done / total : 100);
    return true; // false would cancel
  }

  private static void print(ModelPlan plan) {
    System.out.printf("plan for %s: %d bytes%n", plan.device(), plan.totalBytes());
    System.out.printf(
        "  weights %d, KV cache %d (%d tokens), workspace %d%n",
        plan.weightBytes(), plan.kvBytes(), plan.contextTokens(), plan.workspaceBytes());
  }

  private static void print(Model model) {
    ModelInfo info = model.info();
    System.out.printf(
        "model: %d parameters, %d layers, vocabulary %d%n",
        info.nParameters(), info.nLayers(), info.nVocab());
    System.out.printf(
        "policy %s, %.3f bits per weight, on %s with %s kernels, %d threads%n",
        info.policy(), info.bitsPerWeight(), info.device(), info.kernels(), info.nThreads());
    for (TensorInfo tensor : model.tensors()) {
      System.out.printf(
          "  %-48s %6d x %-6d w%da%d%n",
          tensor.name(),
          tensor.rows(),
          tensor.cols(),
          tensor.weightBits(),
          tensor.activationBits());
    }
  }

  /** Runs the sample. */
  public static void main(String[] arguments) {
    if (arguments.length != 1) {
      System.err.println("usage: Load MODEL.flexq");
      System.exit(2);
    }
    ModelOptions options = new ModelOptions().progress(Load::printProgress);
    try (Source source = Source.open(Path.of(arguments[0]))) {
      print(Model.plan(source, options, null));
      try (Model model = Model.load(source, options)) {
        System.err.println();
        print(model);
      }
    } catch (FlexqException e) {
      System.err.println(e);
      System.exit(1);
    }
  }
}
