package org.flexq;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flexq.internal.FlexqNative;
import org.flexq.internal.Utf8;

/**
 * How large a context is. What is not set has the library's default. Values are checked when the
 * options are used: UNKNOWN_OPTION, UNSUPPORTED_VALUE, INVALID_ARGUMENT. Reusable; not changed by
 * being used.
 */
public final class ContextOptions {
  private final Map<String, String> named = new LinkedHashMap<>();
  private Integer contextTokens;
  private Integer nSequences;
  private Integer chunkTokens;
  private Integer cacheTokens;
  private Integer nOutputs;

  /** The defaults. */
  public ContextOptions() {}

  /**
   * Longest sequence. More than the model was trained for is UNSUPPORTED_VALUE.
   *
   * @param nTokens 0 (default): the smaller of 4096 and what the model was trained for
   * @return this
   */
  public ContextOptions contextTokens(int nTokens) {
    contextTokens = nTokens;
    return this;
  }

  /**
   * Sequences 0 .. n - 1 that can live side by side.
   *
   * @param n default 1
   * @return this
   */
  public ContextOptions sequences(int n) {
    nSequences = n;
    return this;
  }

  /**
   * Tokens computed at once: longer input is cut into chunks of this size, between which cancels
   * and deadlines are seen. Results do not depend on it; the workspace does.
   *
   * @param nTokens default 256, on CUDA 1024
   * @return this
   */
  public ContextOptions chunkTokens(int nTokens) {
    chunkTokens = nTokens;
    return this;
  }

  /**
   * Tokens that the KV cache holds over all sequences, rounded up to whole pages. Less than the
   * default lets many short sequences share: a decode that finds no free page throws CONTEXT_FULL.
   *
   * @param nTokens 0 (default): sequences times context tokens
   * @return this
   */
  public ContextOptions cacheTokens(int nTokens) {
    cacheTokens = nTokens;
    return this;
  }

  /**
   * Rows of logits or embeddings that one decode may ask for.
   *
   * @param n default: one per sequence
   * @return this
   */
  public ContextOptions outputs(int n) {
    nOutputs = n;
    return this;
  }

  /**
   * A rare option by name: "kv_type", "poison"; see flexq.h.
   *
   * @param key its name
   * @param value as text
   * @return this
   */
  public ContextOptions set(String key, String value) {
    named.put(key, value);
    return this;
  }

  /** options may be null. */
  static NativeObject toNative(ContextOptions options) {
    if (options == null) {
      return NativeObject.NONE;
    }
    return NativeObject.create(
        FlexqNative::flexq_context_options_create,
        FlexqNative::flexq_context_options_release,
        options::configure);
  }

  private void configure(long address) {
    if (contextTokens != null) {
      FlexqNative.flexq_context_options_set_context_tokens(address, contextTokens);
    }
    if (nSequences != null) {
      FlexqNative.flexq_context_options_set_sequences(address, nSequences);
    }
    if (chunkTokens != null) {
      FlexqNative.flexq_context_options_set_chunk_tokens(address, chunkTokens);
    }
    if (cacheTokens != null) {
      FlexqNative.flexq_context_options_set_cache_tokens(address, cacheTokens);
    }
    if (nOutputs != null) {
      FlexqNative.flexq_context_options_set_outputs(address, nOutputs);
    }
    named.forEach(
        (key, value) ->
            FlexqNative.flexq_context_options_set(
                address, Utf8.zeroTerminated(key), Utf8.zeroTerminated(value)));
  }
}
