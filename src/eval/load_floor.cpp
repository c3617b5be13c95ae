#include "eval/load_floor.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/memory_guard.h"
#include "base/sha256.h"
#include "base/stopwatch.h"
#include "bundle/chunk_codec.h"
#include "device/device_registry.h"
#include "model/llama_model.h"

namespace flexq {
namespace {

constexpr int kRounds = 5;
constexpr int kPassesInARound = 16;  // of about 2 MiB: long beside the start of the threads
constexpr int kFreshRounds = 2;
constexpr int64_t kFreshPartBytes = int64_t{2} << 20;  // a huge page

int64_t largest_tensor(const Bundle& bundle) {
  int64_t largest = 0;
  for (int64_t i = 1; i < std::ssize(bundle.tensors()); ++i) {
    if (bundle.decoded_bytes(i) > bundle.decoded_bytes(largest)) largest = i;
  }
  return largest;
}

// What one thread works on: copies of its own.
struct ThreadData {
  std::vector<uint8_t> stored;
  std::vector<uint8_t> decoded;
  Status status;
};

// Bytes per second of one thread; `pass` works once through all of a thread's bytes.
template <typename Pass>
double best_rate(ThreadPool& pool, std::vector<ThreadData>& threads, Pass pass) {
  int64_t best_ns = INT64_MAX;
  for (int round = 0; round < kRounds; ++round) {
    Stopwatch watch;
    pool.parallel_for(std::ssize(threads), [&](int64_t task, int) {
      for (int i = 0; i < kPassesInARound; ++i)
        pass(threads[static_cast<size_t>(task)]);
    });
    best_ns = std::min(best_ns, watch.lap_ns());
  }
  return static_cast<double>(threads[0].stored.size()) * kPassesInARound * 1e9 /
         static_cast<double>(best_ns);
}

// Allocated as the CPU allocates weights; only the writing counts.
Status measure_fresh_memory(std::span<const StoredTensor> tensors, ThreadPool& pool,
                            LoadFloor& floor) {
  FLEXQ_ASSIGN_OR_RETURN(const std::shared_ptr<Device> cpu, open_device("cpu", {}));
  FLEXQ_ASSIGN_OR_RETURN(const WeightPlan plan, plan_weights(*cpu, tensors));
  // The weights may be meant for another device.
  const int64_t most_bytes = std::max(cpu->describe().free_memory_bytes / 2, kFreshPartBytes);
  const int64_t bytes = std::min(plan.total_bytes, most_bytes);
  for (int round = 0; round < kFreshRounds; ++round) {
    FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceBuffer> memory,
                           cpu->allocate(bytes, "fresh memory"));
    Stopwatch watch;
    pool.parallel_for(ceil_div(bytes, kFreshPartBytes), [&](int64_t part, int) {
      const int64_t begin = part * kFreshPartBytes;
      std::memset(memory->data() + begin, 1,
                  static_cast<size_t>(std::min(kFreshPartBytes, bytes - begin)));
    });
    const double rate = static_cast<double>(bytes) * 1e9 / static_cast<double>(watch.lap_ns());
    if (round == 0) floor.first_touch_rate = rate;
    floor.fresh_memory_rate = std::max(floor.fresh_memory_rate, rate);
  }
  return Status();
}

}  // namespace

Result<LoadFloor> measure_load_floor(Bundle& bundle, ThreadPool& pool) {
  const int64_t tensor = largest_tensor(bundle);
  const StoredTensor& stored_tensor = bundle.tensors()[static_cast<size_t>(tensor)];
  PieceBuffer buffer;
  WeightPiece piece;
  FLEXQ_RETURN_IF_ERROR(bundle.read_piece(tensor, 0, buffer, &piece));
  const auto raw = std::span<const uint8_t>(
      piece.values,
      static_cast<size_t>(
          chunk_layout(stored_tensor.format, piece.n_rows, stored_tensor.spec.cols).raw_bytes));

  // The chunk as the writer compresses it.
  std::vector<uint8_t> stored(static_cast<size_t>(ChunkCompressor::bound(std::ssize(raw))));
  FLEXQ_ASSIGN_OR_RETURN(const int64_t stored_bytes, ChunkCompressor().compress(raw, stored));
  const bool compressed = stored_bytes > 0;
  if (compressed) {
    stored.resize(static_cast<size_t>(stored_bytes));
  } else {
    stored.assign(raw.begin(), raw.end());
  }
  std::vector<ThreadData> threads(static_cast<size_t>(pool.n_threads()),
                                  {stored, std::vector<uint8_t>(raw.size()), Status()});

  LoadFloor floor;
  floor.hash_rate = best_rate(pool, threads, [](ThreadData& data) {
    data.status = guard_memory("hash", [&] {
      data.decoded[0] = sha256(data.stored)[0];
      return Status();
    });
  });
  for (ThreadData& data : threads)
    FLEXQ_RETURN_IF_ERROR(std::move(data.status));
  if (compressed) {
    ChunkDecompressor decompressor;
    floor.decode_rate = best_rate(pool, threads, [&](ThreadData& data) {
      data.status = guard_memory(
          "decoded chunk", [&] { return decompressor.decompress(data.stored, data.decoded); });
    });
    for (ThreadData& data : threads)
      FLEXQ_RETURN_IF_ERROR(std::move(data.status));
  }
  FLEXQ_RETURN_IF_ERROR(measure_fresh_memory(bundle.tensors(), pool, floor));
  return floor;
}

}  // namespace flexq
