package org.flexq;

import java.nio.file.Path;
import java.util.function.LongConsumer;
import org.flexq.internal.Callback;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/** Makes bundles. Thread-safe. */
public final class Quantizer {
  private Quantizer() {}

  /**
   * Turns a Hugging Face LLaMA checkpoint folder into a bundle. Needs memory for a few pieces of a
   * tensor per thread, not for the model. The output appears under its name only when complete; on
   * any error what was there before is untouched.
   *
   * @param checkpoint the folder
   * @param output the bundle's file
   * @param options null: the defaults
   * @throws FlexqException NOT_FOUND, IO, NO_SPACE, CORRUPT, UNSUPPORTED_MODEL, NON_FINITE,
   *     INVALID_ARGUMENT (the output is a folder; an unfit calibration text; options that do not
   *     fit each other), BUDGET_NOT_MET (the message says what was reached), CANCELLED
   */
  public static void quantize(Path checkpoint, Path output, QuantizeOptions options) {
    byte[] from = Utf8.zeroTerminated(checkpoint.toString());
    byte[] to = Utf8.zeroTerminated(output.toString());
    run(options, address -> FlexqNative.flexq_quantize(from, to, address));
  }

  /**
   * A bundle of random weights of a published shape, quantized from fp16 like a checkpoint.
   *
   * @param shape as for {@link Source#synthetic}
   * @param output the bundle's file
   * @param options null: the defaults
   * @throws FlexqException as {@link #quantize}
   */
  public static void quantizeSynthetic(String shape, Path output, QuantizeOptions options) {
    byte[] name = Utf8.zeroTerminated(shape);
    byte[] to = Utf8.zeroTerminated(output.toString());
    run(options, address -> FlexqNative.flexq_quantize_synthetic(name, to, address));
  }

  private static void run(QuantizeOptions options, LongConsumer quantize) {
    Callback callback = Callbacks.progress(options == null ? null : options.progress());
    Callbacks.run(
        callback,
        progress -> {
          try (NativeObject with = QuantizeOptions.toNative(options, progress)) {
            quantize.accept(with.address);
          }
        });
  }
}
