package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.StatsStruct;

/**
 * Counts and times of an answer.
 *
 * @param finishReason NONE while it runs
 * @param nPromptTokens computed for this prompt, BOS included
 * @param nGeneratedTokens an end token is not counted
 * @param prefillNs nanoseconds for the prompt, until its logits are there
 * @param decodeNs all later forward passes and sampling
 * @param timeToFirstTokenNs from start
 */
public record GeneratorStats(
    FinishReason finishReason,
    int nPromptTokens,
    int nGeneratedTokens,
    long prefillNs,
    long decodeNs,
    long timeToFirstTokenNs) {

  static GeneratorStats of(long generator) {
    try (StatsStruct stats = new StatsStruct()) {
      FlexqNative.flexq_generator_get_stats(generator, stats);
      return new GeneratorStats(
          FinishReason.of(stats.getFinish_reason()),
          stats.getN_prompt_tokens(),
          stats.getN_generated_tokens(),
          stats.getPrefill_ns(),
          stats.getDecode_ns(),
          stats.getTime_to_first_token_ns());
    }
  }
}
