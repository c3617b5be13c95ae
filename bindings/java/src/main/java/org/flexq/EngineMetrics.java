package org.flexq;

import org.flexq.internal.EngineMetricsStruct;
import org.flexq.internal.FlexqNative;

/**
 * What an engine has done since it was created, and what it is doing.
 *
 * @param nWaiting requests without a place
 * @param nRunning requests with one
 * @param pagesTotal of the KV cache
 * @param pagesUsed by requests
 * @param pagesCached by nobody, kept for other requests
 * @param nSubmitted requests that were accepted
 * @param nFinished of them: by an end token, a stop string, or the length
 * @param nCancelled of them: cancelled
 * @param nDeadline of them: past their deadline
 * @param nFailed of them: failed
 * @param nRefused requests that were not accepted: QUEUE_FULL
 * @param nPreemptions how often a request's pages were given up and computed again
 * @param promptTokens of requests that had a place
 * @param reusedTokens of them: taken over from other requests
 * @param computedTokens by forward passes, recomputed ones included
 * @param generatedTokens of all answers
 * @param nSteps steps
 * @param stepNs nanoseconds in steps
 */
public record EngineMetrics(
    int nWaiting,
    int nRunning,
    int pagesTotal,
    int pagesUsed,
    int pagesCached,
    long nSubmitted,
    long nFinished,
    long nCancelled,
    long nDeadline,
    long nFailed,
    long nRefused,
    long nPreemptions,
    long promptTokens,
    long reusedTokens,
    long computedTokens,
    long generatedTokens,
    long nSteps,
    long stepNs) {

  static EngineMetrics of(long engine) {
    try (EngineMetricsStruct metrics = new EngineMetricsStruct()) {
      FlexqNative.flexq_engine_get_metrics(engine, metrics);
      return new EngineMetrics(
          metrics.getN_waiting(),
          metrics.getN_running(),
          metrics.getPages_total(),
          metrics.getPages_used(),
          metrics.getPages_cached(),
          metrics.getN_submitted(),
          metrics.getN_finished(),
          metrics.getN_cancelled(),
          metrics.getN_deadline(),
          metrics.getN_failed(),
          metrics.getN_refused(),
          metrics.getN_preemptions(),
          metrics.getPrompt_tokens(),
          metrics.getReused_tokens(),
          metrics.getComputed_tokens(),
          metrics.getGenerated_tokens(),
          metrics.getN_steps(),
          metrics.getStep_ns());
    }
  }
}
