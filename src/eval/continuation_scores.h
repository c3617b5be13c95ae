// Scores of continuations: many short texts at once over the sequences of one context, what
// neighbours have in common computed once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "runtime/context.h"

namespace flexq {

// A context and its continuation, as tokens.
struct Continuation {
  std::vector<int32_t> tokens;  // of both, one after the other
  int32_t n_scored = 0;         // the last ones, which are the continuation: 1 to all but one
};

// Neighbours of a list that are computed together: the first n_shared tokens once for all.
struct ContinuationGroup {
  size_t first = 0;
  size_t count = 0;
  int32_t n_shared = 0;  // 0 where count is 1
  int32_t n_pages = 0;   // of the KV cache, for all of them at the same time
};

// Cuts the list into groups of at most n_sequences members and n_pages pages (more only for a
// member that takes more alone). A member joins its predecessors where it shares at least half of
// the context of the first.
std::vector<ContinuationGroup> group_continuations(std::span<const Continuation> list,
                                                   int32_t n_sequences, int32_t n_pages);

// scores[i] = ln p(continuation i | its context): (list.size()). Not even in its last bit does a
// score depend on the other members of the list or on the sequences and pages of the context.
// All sequences of the context must be empty, and are empty afterwards. progress(done, total)
// counts tokens that are computed; after_pass(n) says that the scores of the first n are there.
// Both cancel by returning true.
Status score_continuations(Context& context, std::span<const Continuation> list, double* scores,
                           FunctionRef<bool(int64_t done, int64_t total)> progress,
                           FunctionRef<bool(size_t n_scored)> after_pass);

}  // namespace flexq
