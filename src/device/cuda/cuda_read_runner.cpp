#include "device/cuda/cuda_read_runner.h"

#include "kernels/cuda/benchmark_kernels.h"

namespace flexq {
namespace {

constexpr int32_t kBandwidthRepeats = 5;
constexpr double kGraphUs = 2000;

}  // namespace

Result<std::unique_ptr<ReadRunner>> CudaReadRunner::create(std::shared_ptr<CudaSession> session) {
  FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<CudaBuffer> sink,
                         CudaBuffer::allocate(session, sizeof(uint32_t), "memory to read"));
  FLEXQ_ASSIGN_OR_RETURN(CudaTimer timer, CudaTimer::create(session));
  return std::unique_ptr<ReadRunner>(
      new CudaReadRunner(std::move(session), std::move(sink), std::move(timer)));
}

Result<double> CudaReadRunner::bandwidth(int64_t bytes) {
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<CudaBuffer> memory,
                         CudaBuffer::allocate(session_, bytes, "memory to read"));
  FLEXQ_RETURN_IF_ERROR(session_->check(
      cuda_fill_random(timer_.launch(), CudaRandom::kBytes, 1, memory->data(), bytes),
      "random bytes"));
  const std::span<const uint8_t> block(memory->data(), static_cast<size_t>(bytes));
  FLEXQ_ASSIGN_OR_RETURN(const double us, time({&block, 1}, kBandwidthRepeats));
  return static_cast<double>(bytes) / us * 1e6;
}

Result<double> CudaReadRunner::time(std::span<const std::span<const uint8_t>> blocks,
                                    int32_t repeats) {
  double best_us = 0;
  for (const int32_t blocks_per_sm : kReadOnlyBlocks) {
    FLEXQ_ASSIGN_OR_RETURN(const double us, timer_.time(kGraphUs, repeats, [&](int64_t i) {
      const std::span<const uint8_t> block = blocks[static_cast<size_t>(i) % blocks.size()];
      return session_->check(
          cuda_read_only(timer_.launch(), block.data(), static_cast<int64_t>(block.size()),
                         blocks_per_sm, reinterpret_cast<uint32_t*>(sink_->data())),
          "reading");
    }));
    if (best_us == 0 || us < best_us) best_us = us;
  }
  return best_us;
}

}  // namespace flexq
