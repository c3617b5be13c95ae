// What bounds the loading of a bundle: how fast this machine hashes and decodes stored bytes and
// does nothing else with them, and how fast it hands out memory.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"
#include "bundle/bundle_reader.h"

namespace flexq {

// The best of several rounds.
struct LoadFloor {
  // Stored bytes per second of one thread while all threads of the pool do the same, each with one
  // chunk that stays in its cache.
  double hash_rate = 0;    // SHA-256
  double decode_rate = 0;  // zstd; 0 where the chunk is not compressed
  // Bytes per second that all threads together write to memory that the system has just handed out.
  // In a virtual machine, whose memory the host hands out in turn, this can take the longest.
  double fresh_memory_rate = 0;
};

// Measured with the first chunk of the bundle's largest tensor.
Result<LoadFloor> measure_load_floor(Bundle& bundle, ThreadPool& pool);

}  // namespace flexq
