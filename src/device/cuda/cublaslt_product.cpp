#include "device/cuda/cublaslt_product.h"

namespace flexq {
namespace {

constexpr int kMostAlgorithms = 8;

}  // namespace

Result<std::shared_ptr<CublasLtHandle>> CublasLtHandle::create(const CublasLt& lt) {
  std::shared_ptr<CublasLtHandle> handle(new CublasLtHandle(lt));
  FLEXQ_RETURN_IF_ERROR(lt.check(lt.create(&handle->handle_), "starting"));
  return handle;
}

CublasLtHandle::~CublasLtHandle() {
  if (handle_ != nullptr) lt_.destroy(handle_);
}

Result<CublasLtProduct> CublasLtProduct::create(std::shared_ptr<CublasLtHandle> handle,
                                                const CublasLtTypes& types,
                                                const LinearShape& shape, int64_t workspace_bytes) {
  CublasLtProduct product(std::move(handle));
  FLEXQ_RETURN_IF_ERROR(product.describe(types, shape));
  FLEXQ_RETURN_IF_ERROR(product.find_algorithms(shape, workspace_bytes));
  return product;
}

// cuBLASLt thinks in columns: a row-major (rows, cols) matrix is its (cols, rows).
Status CublasLtProduct::make_layout(cudaDataType_t type, int64_t n_cols, int64_t n_rows,
                                    Owned<cublasLtMatrixLayout_t>& layout) const {
  cublasLtMatrixLayout_t made = nullptr;
  FLEXQ_RETURN_IF_ERROR(lt_->check(lt_->layout_create(&made, type, static_cast<uint64_t>(n_cols),
                                                      static_cast<uint64_t>(n_rows), n_cols),
                                   "a matrix layout"));
  layout = Owned<cublasLtMatrixLayout_t>(made, Deleter{lt_});
  return Status();
}

Status CublasLtProduct::describe(const CublasLtTypes& types, const LinearShape& shape) {
  integer_scale_ = types.scale == CUDA_R_32I;
  cublasLtMatmulDesc_t made = nullptr;
  FLEXQ_RETURN_IF_ERROR(
      lt_->check(lt_->desc_create(&made, types.compute, types.scale), "a product"));
  desc_ = Owned<cublasLtMatmulDesc_t>(made, Deleter{lt_});
  const cublasOperation_t transposed = CUBLAS_OP_T;
  FLEXQ_RETURN_IF_ERROR(lt_->check(
      lt_->desc_set_attribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
      "a transposed operand"));
  if (types.operand == CUDA_R_8F_E4M3) {
    // As inference does it: sums stay in the tensor core's own accumulators.
    const int8_t fast = 1;
    FLEXQ_RETURN_IF_ERROR(lt_->check(
        lt_->desc_set_attribute(made, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast),
        "fast accumulation"));
  }
  FLEXQ_RETURN_IF_ERROR(make_layout(types.operand, shape.n_cols, shape.n_rows, weights_));
  FLEXQ_RETURN_IF_ERROR(make_layout(types.operand, shape.n_cols, shape.n_tokens, activations_));
  return make_layout(types.output, shape.n_rows, shape.n_tokens, out_);
}

Status CublasLtProduct::find_algorithms(const LinearShape& shape, int64_t workspace_bytes) {
  cublasLtMatmulPreference_t made = nullptr;
  FLEXQ_RETURN_IF_ERROR(lt_->check(lt_->preference_create(&made), "a preference"));
  const Owned<cublasLtMatmulPreference_t> preference(made, Deleter{lt_});
  FLEXQ_RETURN_IF_ERROR(
      lt_->check(lt_->preference_set_attribute(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace_bytes, sizeof workspace_bytes),
                 "the workspace"));
  algorithms_.resize(kMostAlgorithms);
  int n_found = 0;
  const cublasStatus_t status = lt_->get_heuristic(handle_->get(), desc_.get(), weights_.get(),
                                                   activations_.get(), out_.get(), out_.get(), made,
                                                   kMostAlgorithms, algorithms_.data(), &n_found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && n_found == 0)) {
    return Status::error(StatusCode::kUnsupportedValue,
                         "cuBLASLt %s has no algorithm for %lld x %lld and %d tokens",
                         lt_->version().c_str(), static_cast<long long>(shape.n_rows),
                         static_cast<long long>(shape.n_cols), shape.n_tokens);
  }
  algorithms_.resize(static_cast<size_t>(n_found));
  return lt_->check(status, "choosing algorithms");
}

Status CublasLtProduct::multiply(size_t algorithm, const CublasLtOperands& operands,
                                 cudaStream_t stream) const {
  const float one = 1;
  const float zero = 0;
  const int32_t integer_one = 1;
  const int32_t integer_zero = 0;
  const auto* alpha = integer_scale_ ? static_cast<const void*>(&integer_one) : &one;
  const auto* beta = integer_scale_ ? static_cast<const void*>(&integer_zero) : &zero;
  return lt_->check(
      lt_->matmul(handle_->get(), desc_.get(), alpha, operands.weights, weights_.get(),
                  operands.activations, activations_.get(), beta, operands.out, out_.get(),
                  operands.out, out_.get(), &algorithms_[algorithm].algo, operands.workspace,
                  static_cast<size_t>(operands.workspace_bytes), stream),
      "a product");
}

}  // namespace flexq
