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
  // Bytes per second that all threads together write to memory that the system has just handed out,
  // as much as the bundle's weights take on the CPU, at most half of what is free: the best round,
  // and the first. Between the two lies the host of a virtual machine that takes back memory which
  // its guest leaves free.
  double fresh_memory_rate = 0;
  double first_touch_rate = 0;
};

// Hashing and decoding are measured with the first chunk of the bundle's largest tensor; memory
// comes last, so that who loads at once finds it as the best round did.
Result<LoadFloor> measure_load_floor(Bundle& bundle, ThreadPool& pool);

}  // namespace flexq
