import java.nio.file.Path;
import org.flexq.Bundle;
import org.flexq.FlexqException;
import org.flexq.ProgressListener;
import org.flexq.QuantizeOptions;
import org.flexq.Quantizer;
import org.flexq.Source;

/** Turns a checkpoint folder into a bundle and checks it: Quantize CHECKPOINT_DIR OUT.flexq. */
public final class Quantize {
  private Quantize() {}

  private static ProgressListener printProgress(String label) {
    return (done, total) -> {
      System.err.printf("\r%s: %3d%%", label, total > 0 ? 100 * done / total : 100);
      return true; // false would cancel, and leave what was at OUT.flexq before
    };
  }

  /** Runs the sample. */
  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.err.println("usage: Quantize CHECKPOINT_DIR OUT.flexq");
      System.exit(2);
    }
    Path output = Path.of(arguments[1]);
    QuantizeOptions options =
        new QuantizeOptions().policy("flexq").progress(printProgress("quantizing"));
    try {
      Quantizer.quantize(Path.of(arguments[0]), output, options);
      System.err.println();
      try (Source source = Source.open(output);
          Bundle bundle = Bundle.open(source)) {
        bundle.verify(0, printProgress("verifying"));
        System.err.println();
        System.out.println(bundle.json());
      }
    } catch (FlexqException e) {
      System.err.println(e);
      System.exit(1);
    }
  }
}
