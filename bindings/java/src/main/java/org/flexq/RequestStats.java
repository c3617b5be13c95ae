package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.RequestStatsStruct;

/**
 * Counts and times of a request.
 *
 * @param finishReason NONE while it waits or runs
 * @param nPromptTokens BOS included
 * @param nReusedTokens of the prompt: taken over from other requests
 * @param nGeneratedTokens an end token is not counted
 * @param nPreemptions how often its pages were given up and computed again
 * @param queuedNs nanoseconds from submit until it had a place
 * @param timeToFirstTokenNs from submit; 0: none yet
 * @param totalNs from submit to the end, or until now
 * @param tokensPerSecond after the first token; 0 before the second
 */
public record RequestStats(
    FinishReason finishReason,
    int nPromptTokens,
    int nReusedTokens,
    int nGeneratedTokens,
    int nPreemptions,
    long queuedNs,
    long timeToFirstTokenNs,
    long totalNs,
    double tokensPerSecond) {

  static RequestStats of(long request) {
    try (RequestStatsStruct stats = new RequestStatsStruct()) {
      FlexqNative.flexq_request_get_stats(request, stats);
      return new RequestStats(
          FinishReason.of(stats.getFinish_reason()),
          stats.getN_prompt_tokens(),
          stats.getN_reused_tokens(),
          stats.getN_generated_tokens(),
          stats.getN_preemptions(),
          stats.getQueued_ns(),
          stats.getTime_to_first_token_ns(),
          stats.getTotal_ns(),
          stats.getTokens_per_second());
    }
  }
}
