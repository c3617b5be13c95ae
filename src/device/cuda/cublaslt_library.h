// NVIDIA's cuBLASLt, whose products ours are compared with: opened on demand, so that nothing but
// the comparison needs it.
#pragma once

#include <cublasLt.h>

#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace flexq {

// Every function of cuBLASLt that FlexQ calls.
struct CublasLt {
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtGetStatusString) get_status_string = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set_attribute = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set_attribute = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;

  std::string version() const;  // "13.1.0"
  // kInternal with what cuBLASLt says; `what` names the call's purpose.
  Status check(cublasStatus_t status, const char* what) const;
};

// Where to look, in order: `chosen` (a file, or a folder that holds one) and nowhere else where it
// is not null; the loader's search path; the usual place of a CUDA toolkit.
std::vector<std::string> cublaslt_candidates(const char* chosen);

// The first file that opens; it stays open. kNotFound names the candidates and why the last one did
// not open, kUnsupportedVersion a file and the function that it lacks.
Result<CublasLt> open_cublaslt(std::span<const std::string> candidates);

}  // namespace flexq
