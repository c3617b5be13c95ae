// One product of cuBLASLt, out (n_tokens, n_rows) = X (n_tokens, n_cols) W (n_rows, n_cols)^T, all
// row-major and dense, and the algorithms that cuBLASLt offers for it.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/cublaslt_library.h"
#include "device/linear_runner.h"

namespace flexq {

struct CublasLtTypes {
  cudaDataType_t operand;  // of weights and activations
  cudaDataType_t output;
  cudaDataType_t scale;
  cublasComputeType_t compute;
};

// cublasLtCreate's context of one device.
class CublasLtHandle {
 public:
  // The calling thread's device.
  static Result<std::shared_ptr<CublasLtHandle>> create(const CublasLt& lt);
  ~CublasLtHandle();
  const CublasLt& lt() const { return lt_; }
  cublasLtHandle_t get() const { return handle_; }

 private:
  explicit CublasLtHandle(const CublasLt& lt) : lt_(lt) {}
  const CublasLt lt_;
  cublasLtHandle_t handle_ = nullptr;
};

struct CublasLtOperands {
  const uint8_t* weights = nullptr;
  const uint8_t* activations = nullptr;
  uint8_t* out = nullptr;
  uint8_t* workspace = nullptr;
  int64_t workspace_bytes = 0;
};

class CublasLtProduct {
 public:
  // kUnsupportedValue where cuBLASLt has no algorithm for it.
  static Result<CublasLtProduct> create(std::shared_ptr<CublasLtHandle> handle,
                                        const CublasLtTypes& types, const LinearShape& shape,
                                        int64_t workspace_bytes);
  // The best by cuBLASLt's estimate first.
  size_t n_algorithms() const { return algorithms_.size(); }
  Status multiply(size_t algorithm, const CublasLtOperands& operands, cudaStream_t stream) const;

 private:
  struct Deleter {
    const CublasLt* lt;
    void operator()(cublasLtMatmulDesc_t desc) const { lt->desc_destroy(desc); }
    void operator()(cublasLtMatrixLayout_t layout) const { lt->layout_destroy(layout); }
    void operator()(cublasLtMatmulPreference_t preference) const {
      lt->preference_destroy(preference);
    }
  };
  template <typename Handle>
  using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Deleter>;

  explicit CublasLtProduct(std::shared_ptr<CublasLtHandle> handle)
      : handle_(std::move(handle)), lt_(&handle_->lt()) {}
  Status describe(const CublasLtTypes& types, const LinearShape& shape);
  Status make_layout(cudaDataType_t type, int64_t n_cols, int64_t n_rows,
                     Owned<cublasLtMatrixLayout_t>& layout) const;
  Status find_algorithms(const LinearShape& shape, int64_t workspace_bytes);

  std::shared_ptr<CublasLtHandle> handle_;
  const CublasLt* lt_;
  bool integer_scale_ = false;
  Owned<cublasLtMatmulDesc_t> desc_{nullptr, Deleter{nullptr}};
  Owned<cublasLtMatrixLayout_t> weights_{nullptr, Deleter{nullptr}};
  Owned<cublasLtMatrixLayout_t> activations_{nullptr, Deleter{nullptr}};
  Owned<cublasLtMatrixLayout_t> out_{nullptr, Deleter{nullptr}};
  std::vector<cublasLtMatmulHeuristicResult_t> algorithms_;
};

}  // namespace flexq
