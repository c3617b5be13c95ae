// A cuBLASLt without a GPU, opened in its place: products are checked and not computed. What it
// does not support depends on the number of tokens, so that tests can ask for every case:
//   3 tokens   no algorithm at all
//   5 tokens   the first of three algorithms fails when it runs
//   7 tokens   every algorithm fails when it runs
#include <cublasLt.h>

#include <cstdlib>

namespace {

constexpr int kAlgorithms = 3;

// What a layout of the substitute is; the opaque types are large enough for it.
struct Layout {
  uint64_t rows, cols;
  cudaDataType_t type;
};

Layout* layout_of(cublasLtMatrixLayout_t layout) {
  return reinterpret_cast<Layout*>(layout);
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() {
  return 130205;
}
const char* cublasLtGetStatusString(cublasStatus_t) {
  return "substitute";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = static_cast<cublasLtHandle_t>(std::malloc(1));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  std::free(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t,
                                        cudaDataType_t) {
  *desc = static_cast<cublasLtMatmulDesc_t>(std::malloc(1));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  std::free(desc);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
                                              const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t) {
  *layout = static_cast<cublasLtMatrixLayout_t>(std::malloc(sizeof(Layout)));
  *layout_of(*layout) = {rows, cols, type};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  std::free(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = static_cast<cublasLtMatmulPreference_t>(std::malloc(1));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  std::free(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t weights,
                                              cublasLtMatrixLayout_t activations,
                                              cublasLtMatrixLayout_t out, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* n_found) {
  *n_found = 0;
  const Layout& w = *layout_of(weights);
  const Layout& x = *layout_of(activations);
  const Layout& y = *layout_of(out);
  // Columns of W and X are the ones multiplied; a transposed W gives rows of the result.
  if (w.rows != x.rows || y.rows != w.cols || y.cols != x.cols || w.type != x.type)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (x.cols == 3) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (; *n_found < n_wanted && *n_found < kAlgorithms; ++*n_found) {
    results[*n_found] = {};
    results[*n_found].algo.data[0] = static_cast<uint64_t>(*n_found);
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void* a,
                              cublasLtMatrixLayout_t, const void* b,
                              cublasLtMatrixLayout_t activations, const void*, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t,
                              cudaStream_t) {
  if (a == nullptr || b == nullptr || c != d || d == nullptr || workspace == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  const uint64_t n_tokens = layout_of(activations)->cols;
  if (n_tokens == 7 || (n_tokens == 5 && algorithm->data[0] == 0))
    return CUBLAS_STATUS_EXECUTION_FAILED;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
