// What all engines of the process have done, also those that are gone: sums that never fall.
#pragma once

#include <flexq.h>

#include <mutex>
#include <set>

namespace flexq_tool {

class EngineTotals {
 public:
  void add(const flexq_engine* engine);
  // Keeps what the engine has done; call it before the release.
  void retire(const flexq_engine* engine);
  // The sums over all engines; what is under way and the pages over those that live.
  flexq_engine_metrics sum() const;

 private:
  mutable std::mutex mutex_;
  std::set<const flexq_engine*> engines_;
  flexq_engine_metrics retired_ = {};
};

}  // namespace flexq_tool
