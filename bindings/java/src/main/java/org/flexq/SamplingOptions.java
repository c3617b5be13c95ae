package org.flexq;

import java.util.LinkedHashMap;
import java.util.Map;
import org.flexq.internal.FlexqNative;

/**
 * How the next token is drawn from logits; flexq.h lists the stages. What is not set has the
 * library's default: greedy. The same seed and position give the same draw whatever was generated
 * before. Values are checked when the options are used (INVALID_ARGUMENT). Reusable; not changed by
 * being used.
 */
public final class SamplingOptions {
  private final Map<Integer, Float> bias = new LinkedHashMap<>();
  private Float temperature;
  private Integer topK;
  private Float topP;
  private Float minP;
  private Long seed;
  private Penalties penalties;

  private record Penalties(float repetition, float presence, float frequency, int window) {}

  /**
   * A token that was drawn.
   *
   * @param token its id
   * @param logProb ln p of the token under the untouched logits
   */
  public record Sample(int token, float logProb) {}

  /** Greedy: temperature 0, everything else off, seed 0. */
  public SamplingOptions() {}

  /**
   * Divides the logits.
   *
   * @param value in [0, 100]; 0 (default) takes the largest logit
   * @return this
   */
  public SamplingOptions temperature(float value) {
    temperature = value;
    return this;
  }

  /**
   * Keeps the k largest.
   *
   * @param k in [0, 2^20]; 0 (default): off
   * @return this
   */
  public SamplingOptions topK(int k) {
    topK = k;
    return this;
  }

  /**
   * Keeps the fewest largest whose probabilities reach p.
   *
   * @param p in [0, 1]; 1 (default): off
   * @return this
   */
  public SamplingOptions topP(float p) {
    topP = p;
    return this;
  }

  /**
   * Keeps what has at least this part of the largest probability.
   *
   * @param p in [0, 1]; 0 (default): off
   * @return this
   */
  public SamplingOptions minP(float p) {
    minP = p;
    return this;
  }

  /**
   * Where the random numbers begin.
   *
   * @param value any 64 bits, read as an unsigned number
   * @return this
   */
  public SamplingOptions seed(long value) {
    seed = value;
    return this;
  }

  /**
   * Makes tokens that occurred less probable.
   *
   * @param repetition in (0, 100], 1 (default): off
   * @param presence in [-100, 100], 0 (default): off
   * @param frequency in [-100, 100], 0 (default): off
   * @param window how many of the last tokens count, 0 or more (default 64)
   * @return this
   */
  public SamplingOptions penalties(
      float repetition, float presence, float frequency, int window) {
    penalties = new Penalties(repetition, presence, frequency, window);
    return this;
  }

  /**
   * Adds to one token's logit before everything else; a second bias replaces the first.
   *
   * @param token its id
   * @param value negative infinity forbids the token
   * @return this
   */
  public SamplingOptions logitBias(int token, float value) {
    bias.put(token, value);
    return this;
  }

  /**
   * Draws one token.
   *
   * @param logits (nVocab), unchanged
   * @param history what penalties look at, oldest first; may be empty
   * @param position the absolute position that the new token will have
   * @return the token
   * @throws FlexqException NON_FINITE (NaN, +infinity, or every token forbidden), INVALID_ARGUMENT,
   *     OUT_OF_MEMORY
   */
  public Sample sample(float[] logits, int[] history, int position) {
    int[] token = new int[1];
    float[] logProb = new float[1];
    try (NativeObject sampling = toNative()) {
      FlexqNative.flexq_sampling_sample(
          sampling.address, logits, history, position, token, logProb);
      return new Sample(token[0], logProb[0]);
    }
  }

  NativeObject toNative() {
    return NativeObject.create(
        FlexqNative::flexq_sampling_create, FlexqNative::flexq_sampling_release, this::configure);
  }

  private void configure(long address) {
    if (temperature != null) {
      FlexqNative.flexq_sampling_set_temperature(address, temperature);
    }
    if (topK != null) {
      FlexqNative.flexq_sampling_set_top_k(address, topK);
    }
    if (topP != null) {
      FlexqNative.flexq_sampling_set_top_p(address, topP);
    }
    if (minP != null) {
      FlexqNative.flexq_sampling_set_min_p(address, minP);
    }
    if (seed != null) {
      FlexqNative.flexq_sampling_set_seed(address, seed);
    }
    if (penalties != null) {
      FlexqNative.flexq_sampling_set_penalties(
          address,
          penalties.repetition(),
          penalties.presence(),
          penalties.frequency(),
          penalties.window());
    }
    bias.forEach(
        (token, value) -> FlexqNative.flexq_sampling_set_logit_bias(address, token, value));
  }
}
