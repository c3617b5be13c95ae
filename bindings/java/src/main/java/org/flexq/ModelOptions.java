package org.flexq;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flexq.internal.CallbackReference;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * How a model is loaded. What is not set has the library's default. Values are checked when the
 * options are used: UNKNOWN_OPTION, UNSUPPORTED_VALUE, INVALID_ARGUMENT. Reusable; not changed by
 * being used.
 */
public final class ModelOptions {
  private final Map<String, String> named = new LinkedHashMap<>();
  private String device;
  private Integer nThreads;
  private ProgressListener progress;

  /** The defaults. */
  public ModelOptions() {}

  /**
   * What computes.
   *
   * @param device "auto" (default: the first CUDA device that this process can use, else the CPU),
   *     "cpu", "cuda" (the first), "cuda:0"
   * @return this
   */
  public ModelOptions device(String device) {
    this.device = device;
    return this;
  }

  /**
   * Threads that compute, the calling thread included, in one pool per model. Results do not depend
   * on it.
   *
   * @param nThreads 0 (default): every processor the process may use
   * @return this
   */
  public ModelOptions threads(int nThreads) {
    this.nThreads = nThreads;
    return this;
  }

  /**
   * Who hears of the loading, in decoded bytes of weights.
   *
   * @param listener may be null
   * @return this
   */
  public ModelOptions progress(ProgressListener listener) {
    this.progress = listener;
    return this;
  }

  /**
   * A rare option by name: "cpu.kernels", "cuda.kernels", "max_decoded_bytes"; see flexq.h.
   *
   * @param key its name
   * @param value as text
   * @return this
   */
  public ModelOptions set(String key, String value) {
    named.put(key, value);
    return this;
  }

  ProgressListener progress() {
    return progress;
  }

  /** options and progress may be null. */
  static NativeObject toNative(ModelOptions options, CallbackReference progress) {
    if (options == null) {
      return NativeObject.NONE;
    }
    return NativeObject.create(
        FlexqNative::flexq_model_options_create,
        FlexqNative::flexq_model_options_release,
        address -> options.configure(address, progress));
  }

  private void configure(long address, CallbackReference reference) {
    if (device != null) {
      FlexqNative.flexq_model_options_set_device(address, Utf8.zeroTerminated(device));
    }
    if (nThreads != null) {
      FlexqNative.flexq_model_options_set_threads(address, nThreads);
    }
    if (reference != null && reference.isSet()) {
      FlexqNative.flexq_model_options_set_progress(address, true, reference.userData());
    }
    named.forEach(
        (key, value) ->
            FlexqNative.flexq_model_options_set(
                address, Utf8.zeroTerminated(key), Utf8.zeroTerminated(value)));
  }
}
