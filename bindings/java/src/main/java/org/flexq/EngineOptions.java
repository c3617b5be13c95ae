package org.flexq;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * How an engine works. What is not set has the library's default. Values are checked when the
 * options are used: UNKNOWN_OPTION, UNSUPPORTED_VALUE, INVALID_ARGUMENT. Reusable; not changed by
 * being used.
 */
public final class EngineOptions {
  private final Map<String, String> named = new LinkedHashMap<>();
  private Integer stepTokens;
  private Integer nQueue;

  /** The defaults. */
  public EngineOptions() {}

  /**
   * Most tokens of a step. Fewer make answers under way smoother while prompts are computed, and
   * prompts slower. Never fewer than one for each answer under way.
   *
   * @param nTokens up to the context's chunk; 0 (default): the context's chunk
   * @return this
   */
  public EngineOptions stepTokens(int nTokens) {
    stepTokens = nTokens;
    return this;
  }

  /**
   * Most requests that wait for a place; one more is QUEUE_FULL.
   *
   * @param nRequests 0 to 2^20, default 1024
   * @return this
   */
  public EngineOptions queue(int nRequests) {
    nQueue = nRequests;
    return this;
  }

  /**
   * A rare option by name: "prefix_reuse"; see flexq.h.
   *
   * @param key its name
   * @param value as text
   * @return this
   */
  public EngineOptions set(String key, String value) {
    named.put(key, value);
    return this;
  }

  /** options may be null. */
  static NativeObject toNative(EngineOptions options) {
    if (options == null) {
      return NativeObject.NONE;
    }
    return NativeObject.create(
        FlexqNative::flexq_engine_options_create,
        FlexqNative::flexq_engine_options_release,
        options::configure);
  }

  private void configure(long address) {
    if (stepTokens != null) {
      FlexqNative.flexq_engine_options_set_step_tokens(address, stepTokens);
    }
    if (nQueue != null) {
      FlexqNative.flexq_engine_options_set_queue(address, nQueue);
    }
    named.forEach(
        (key, value) ->
            FlexqNative.flexq_engine_options_set(
                address, Utf8.zeroTerminated(key), Utf8.zeroTerminated(value)));
  }
}
