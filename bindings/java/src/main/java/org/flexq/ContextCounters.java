package org.flexq;

import org.flexq.internal.CountersStruct;
import org.flexq.internal.FlexqNative;

/**
 * What a context holds and has done.
 *
 * @param pagesTotal of the KV cache
 * @param pagesUsed shared pages count once
 * @param nSequencesUsed sequences with at least one token
 * @param tokensComputed since creation
 * @param forwardCalls chunks computed
 * @param computeNs nanoseconds of computing
 * @param pagesCopied copies on write after forks
 */
public record ContextCounters(
    int pagesTotal,
    int pagesUsed,
    int nSequencesUsed,
    long tokensComputed,
    long forwardCalls,
    long computeNs,
    long pagesCopied) {

  static ContextCounters of(long context) {
    try (CountersStruct counters = new CountersStruct()) {
      FlexqNative.flexq_context_get_counters(context, counters);
      return new ContextCounters(
          counters.getPages_total(),
          counters.getPages_used(),
          counters.getN_sequences_used(),
          counters.getTokens_computed(),
          counters.getForward_calls(),
          counters.getCompute_ns(),
          counters.getPages_copied());
    }
  }
}
