#include "device/cuda/cuda_baselines.h"

#include <algorithm>
#include <cstdlib>

#include "base/checked.h"
#include "device/cuda/cublaslt_product.h"
#include "device/cuda/cuda_timer.h"
#include "device/workspace_carver.h"
#include "kernels/cuda/benchmark_kernels.h"

namespace flexq {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what NVIDIA recommends on Hopper
// The search among algorithms may be rougher than the measurement of the best.
constexpr double kSearchGraphUs = 1000;
constexpr int32_t kSearchRepeats = 2;
constexpr double kGraphUs = 2000;

struct BaselineTraits {
  CublasLtTypes types;
  int64_t operand_bytes;
  int64_t output_bytes;
  CudaRandom random;
};

constexpr BaselineTraits traits_of(Baseline baseline) {
  switch (baseline) {
    case Baseline::kF16:
      return {{CUDA_R_16F, CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F}, 2, 2, CudaRandom::kF16};
    case Baseline::kFp8:
      return {{CUDA_R_8F_E4M3, CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F}, 1, 2, CudaRandom::kFp8};
    default:
      return {{CUDA_R_8I, CUDA_R_32I, CUDA_R_32I, CUBLAS_COMPUTE_32I}, 1, 4, CudaRandom::kBytes};
  }
}

// Everything that one product touches, in one piece of memory.
struct Buffers {
  int64_t n_copies = 0;      // of the weights
  int64_t weight_bytes = 0;  // of one copy
  uint8_t* weights = nullptr;
  uint8_t* activations = nullptr;
  uint8_t* out = nullptr;
  uint8_t* workspace = nullptr;
  float* token_scales = nullptr;  // (n_tokens)
  float* row_scales = nullptr;    // (n_rows)
  uint16_t* rows = nullptr;       // (n_tokens, n_rows) fp16: what row-wise W8A8 ends with
};

int64_t carve(const BaselineTraits& traits, const LinearShape& shape, int64_t working_set_bytes,
              uint8_t* base, Buffers& out) {
  WorkspaceCarver carver(base, kAlignment);
  out.weight_bytes = align_up(shape.n_rows * shape.n_cols * traits.operand_bytes, kAlignment);
  out.n_copies = std::max<int64_t>(2, ceil_div(working_set_bytes, out.weight_bytes));
  carver.take(out.weights, out.n_copies, out.weight_bytes);
  carver.take(out.activations, shape.n_tokens, shape.n_cols * traits.operand_bytes);
  carver.take(out.out, shape.n_tokens, shape.n_rows * traits.output_bytes);
  carver.take(out.workspace, 1, kWorkspaceBytes);
  carver.take(out.token_scales, 1, shape.n_tokens);
  carver.take(out.row_scales, 1, align_up(shape.n_rows, 4));
  carver.take(out.rows, shape.n_tokens, shape.n_rows);
  return carver.used().value();
}

class CublasLtBaselines : public BaselineRunner {
 public:
  CublasLtBaselines(std::shared_ptr<CudaSession> session, std::shared_ptr<CublasLtHandle> handle,
                    CudaTimer timer)
      : session_(std::move(session)), handle_(std::move(handle)), timer_(std::move(timer)) {}

  std::string library() const override { return "cuBLASLt " + handle_->lt().version(); }
  Result<double> time(Baseline baseline, const LinearShape& shape, int64_t working_set_bytes,
                      int32_t repeats) override;

 private:
  Status fill(const BaselineTraits& traits, const LinearShape& shape, const Buffers& buffers);
  // One call: the product with copy i of the weights, and the epilogue that belongs to it.
  Status multiply(Baseline baseline, const LinearShape& shape, const CublasLtProduct& product,
                  size_t algorithm, const Buffers& buffers, int64_t i);

  const std::shared_ptr<CudaSession> session_;
  const std::shared_ptr<CublasLtHandle> handle_;
  const CudaTimer timer_;
};

Status CublasLtBaselines::fill(const BaselineTraits& traits, const LinearShape& shape,
                               const Buffers& buffers) {
  struct Fill {
    CudaRandom random;
    void* data;
    int64_t bytes;
  };
  const Fill fills[] = {
      {traits.random, buffers.weights, buffers.n_copies * buffers.weight_bytes},
      {traits.random, buffers.activations, shape.n_tokens * shape.n_cols * traits.operand_bytes},
      {CudaRandom::kScales, buffers.token_scales, shape.n_tokens * int64_t{sizeof(float)}},
      {CudaRandom::kScales, buffers.row_scales, shape.n_rows * int64_t{sizeof(float)}}};
  uint32_t seed = 1;
  for (const Fill& one : fills) {
    FLEXQ_RETURN_IF_ERROR(session_->check(
        cuda_fill_random(timer_.launch(), one.random, seed++, one.data, align_up(one.bytes, 4)),
        "random operands"));
  }
  return timer_.stream().synchronize("random operands");
}

Status CublasLtBaselines::multiply(Baseline baseline, const LinearShape& shape,
                                   const CublasLtProduct& product, size_t algorithm,
                                   const Buffers& buffers, int64_t i) {
  CublasLtOperands operands;
  operands.weights = buffers.weights + i % buffers.n_copies * buffers.weight_bytes;
  operands.activations = buffers.activations;
  operands.out = buffers.out;
  operands.workspace = buffers.workspace;
  operands.workspace_bytes = kWorkspaceBytes;
  FLEXQ_RETURN_IF_ERROR(product.multiply(algorithm, operands, timer_.stream().get()));
  if (baseline != Baseline::kI8Rows) return Status();
  return session_->check(
      cuda_dequantize(timer_.launch(), reinterpret_cast<const int32_t*>(buffers.out),
                      buffers.token_scales, buffers.row_scales, shape.n_tokens, shape.n_rows,
                      buffers.rows),
      "dequantization");
}

Result<double> CublasLtBaselines::time(Baseline baseline, const LinearShape& shape,
                                       int64_t working_set_bytes, int32_t repeats) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  const BaselineTraits traits = traits_of(baseline);
  // Integer and fp8 products want rows of whole 16 bytes.
  if (shape.n_rows % 16 != 0 || shape.n_cols % 16 != 0) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "%s: expected rows and columns in multiples of 16, found %lld x %lld",
                         library().c_str(), static_cast<long long>(shape.n_rows),
                         static_cast<long long>(shape.n_cols));
  }
  FLEXQ_ASSIGN_OR_RETURN(const CublasLtProduct product,
                         CublasLtProduct::create(handle_, traits.types, shape, kWorkspaceBytes));
  Buffers buffers;
  FLEXQ_ASSIGN_OR_RETURN(
      const std::unique_ptr<CudaBuffer> memory,
      CudaBuffer::allocate(session_, carve(traits, shape, working_set_bytes, nullptr, buffers),
                           "operands of a baseline"));
  carve(traits, shape, working_set_bytes, memory->data(), buffers);
  FLEXQ_RETURN_IF_ERROR(fill(traits, shape, buffers));

  // An algorithm that fails when it runs is one that does not count.
  Status failure;
  size_t best = product.n_algorithms();
  double best_us = 0;
  for (size_t algorithm = 0; algorithm < product.n_algorithms(); ++algorithm) {
    Result<double> us = timer_.time(kSearchGraphUs, kSearchRepeats, [&](int64_t i) {
      return multiply(baseline, shape, product, algorithm, buffers, i);
    });
    if (!us.ok()) {
      failure = std::move(us).status();
      if (session_->lost()) return failure;
    } else if (best == product.n_algorithms() || *us < best_us) {
      best = algorithm;
      best_us = *us;
    }
  }
  if (best == product.n_algorithms()) return failure;
  return timer_.time(kGraphUs, repeats, [&](int64_t i) {
    return multiply(baseline, shape, product, best, buffers, i);
  });
}

}  // namespace

Result<std::unique_ptr<BaselineRunner>> create_cuda_baselines(
    std::shared_ptr<CudaSession> session) {
  FLEXQ_ASSIGN_OR_RETURN(const CublasLt lt,
                         open_cublaslt(cublaslt_candidates(std::getenv("FLEXQ_CUBLASLT"))));
  FLEXQ_RETURN_IF_ERROR(session->enter());
  FLEXQ_ASSIGN_OR_RETURN(std::shared_ptr<CublasLtHandle> handle, CublasLtHandle::create(lt));
  FLEXQ_ASSIGN_OR_RETURN(CudaTimer timer, CudaTimer::create(session));
  return std::unique_ptr<BaselineRunner>(
      std::make_unique<CublasLtBaselines>(std::move(session), std::move(handle), std::move(timer)));
}

}  // namespace flexq
