package org.flexq;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flexq.internal.CallbackReference;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * Policy and precisions of a bundle. What is not set has the library's default. Values are checked
 * when the options are used: UNKNOWN_OPTION, UNSUPPORTED_VALUE, INVALID_ARGUMENT. Reusable; not
 * changed by being used.
 */
public final class QuantizeOptions {
  private final Map<String, String> named = new LinkedHashMap<>();
  private String policy;
  private String calibration;
  private Double perplexityBudget;
  private Double a8Fraction;
  private Integer nThreads;
  private ProgressListener progress;

  /** The defaults. */
  public QuantizeOptions() {}

  /**
   * Bits of weights and activations.
   *
   * @param name "flexq" (default: 6-bit weights and activations, down_proj activations 8 bits),
   *     "w6a6", "w6a8", "w6a16" (activations not quantized), "w8a8", "w8a16", "fp16" (nothing
   *     quantized), "auto" (6 or 8 bits chosen for every linear layer: needs a calibration text and
   *     either a perplexity budget or a share of 8-bit work; for checkpoints only)
   * @return this
   */
  public QuantizeOptions policy(String name) {
    policy = name;
    return this;
  }

  /**
   * A rare option by name: "embedding_bits", "lm_head_bits", "scale_search", "equalization",
   * "calibration_windows", "force"; see flexq.h.
   *
   * @param key its name
   * @param value as text
   * @return this
   */
  public QuantizeOptions set(String key, String value) {
    named.put(key, value);
    return this;
  }

  /**
   * A text like those that the model will see: what 6-bit activations cost is measured on it, and
   * the figures go into the bundle (see {@link Bundle#json()}). Policy "auto" chooses by them. Not
   * used by synthetic models.
   *
   * @param text at least four windows of 512 tokens
   * @return this
   */
  public QuantizeOptions calibration(String text) {
    calibration = text;
    return this;
  }

  /**
   * Goal of "auto": the least 8-bit work with which the perplexity on the calibration text rises by
   * at most this part.
   *
   * @param budget in [0, 1], 0.001 is a thousandth; 0 takes the goal back
   * @return this
   */
  public QuantizeOptions perplexityBudget(double budget) {
    perplexityBudget = budget;
    return this;
  }

  /**
   * Goal of "auto": the least loss with at most this share of the linear layers' work on 8-bit
   * activations.
   *
   * @param fraction in [0, 1]; negative takes the goal back
   * @return this
   */
  public QuantizeOptions a8Fraction(double fraction) {
    a8Fraction = fraction;
    return this;
  }

  /**
   * Threads that compute. The bundle's bytes do not depend on it.
   *
   * @param n 0 (default): every processor
   * @return this
   */
  public QuantizeOptions threads(int n) {
    nThreads = n;
    return this;
  }

  /**
   * Who hears of the quantizing, in checkpoint bytes; with a calibration text in ten-thousandths of
   * the expected work.
   *
   * @param listener may be null
   * @return this
   */
  public QuantizeOptions progress(ProgressListener listener) {
    progress = listener;
    return this;
  }

  ProgressListener progress() {
    return progress;
  }

  /** options and progress may be null. */
  static NativeObject toNative(QuantizeOptions options, CallbackReference progress) {
    if (options == null) {
      return NativeObject.NONE;
    }
    return NativeObject.create(
        FlexqNative::flexq_quantize_options_create,
        FlexqNative::flexq_quantize_options_release,
        address -> options.configure(address, progress));
  }

  private void configure(long address, CallbackReference reference) {
    if (policy != null) {
      FlexqNative.flexq_quantize_options_set_policy(address, Utf8.zeroTerminated(policy));
    }
    named.forEach(
        (key, value) ->
            FlexqNative.flexq_quantize_options_set(
                address, Utf8.zeroTerminated(key), Utf8.zeroTerminated(value)));
    if (calibration != null) {
      FlexqNative.flexq_quantize_options_set_calibration(address, Utf8.bytes(calibration));
    }
    if (perplexityBudget != null) {
      FlexqNative.flexq_quantize_options_set_perplexity_budget(address, perplexityBudget);
    }
    if (a8Fraction != null) {
      FlexqNative.flexq_quantize_options_set_a8_fraction(address, a8Fraction);
    }
    if (nThreads != null) {
      FlexqNative.flexq_quantize_options_set_threads(address, nThreads);
    }
    if (reference != null && reference.isSet()) {
      FlexqNative.flexq_quantize_options_set_progress(address, true, reference.userData());
    }
  }
}
