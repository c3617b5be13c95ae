#include "device/cuda/cublaslt_library.h"

#include <dlfcn.h>
#include <sys/stat.h>

namespace flexq {
namespace {

constexpr const char* kFiles[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
constexpr const char* kToolkitFolder = "/usr/local/cuda/lib64/";

bool is_folder(const char* path) {
  struct stat found = {};
  return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

// Takes functions out of a library until one is missing.
class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {}
  template <typename Function>
  void take(const char* name, Function& function) {
    if (missing_ != nullptr) return;
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr) missing_ = name;
  }
  const char* missing() const { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

Result<CublasLt> take_functions(void* library, const std::string& path) {
  CublasLt lt;
  Symbols symbols(library);
  symbols.take("cublasLtGetVersion", lt.get_version);
  symbols.take("cublasLtGetStatusString", lt.get_status_string);
  symbols.take("cublasLtCreate", lt.create);
  symbols.take("cublasLtDestroy", lt.destroy);
  symbols.take("cublasLtMatmulDescCreate", lt.desc_create);
  symbols.take("cublasLtMatmulDescDestroy", lt.desc_destroy);
  symbols.take("cublasLtMatmulDescSetAttribute", lt.desc_set_attribute);
  symbols.take("cublasLtMatrixLayoutCreate", lt.layout_create);
  symbols.take("cublasLtMatrixLayoutDestroy", lt.layout_destroy);
  symbols.take("cublasLtMatmulPreferenceCreate", lt.preference_create);
  symbols.take("cublasLtMatmulPreferenceDestroy", lt.preference_destroy);
  symbols.take("cublasLtMatmulPreferenceSetAttribute", lt.preference_set_attribute);
  symbols.take("cublasLtMatmulAlgoGetHeuristic", lt.get_heuristic);
  symbols.take("cublasLtMatmul", lt.matmul);
  if (symbols.missing() == nullptr) return lt;
  return Status::error(StatusCode::kUnsupportedVersion, "cuBLASLt: %s has no function %s",
                       path.c_str(), symbols.missing());
}

}  // namespace

std::string CublasLt::version() const {
  const size_t number = get_version();  // 130100 is 13.1.0; before 12: 11601
  const size_t major_unit = number >= 100000 ? 10000 : 1000;
  return std::to_string(number / major_unit) + "." + std::to_string(number % major_unit / 100) +
         "." + std::to_string(number % 100);
}

Status CublasLt::check(cublasStatus_t status, const char* what) const {
  if (status == CUBLAS_STATUS_SUCCESS) return Status();
  return Status::error(StatusCode::kInternal, "cuBLASLt: %s: %s", what, get_status_string(status));
}

std::vector<std::string> cublaslt_candidates(const char* chosen) {
  std::vector<std::string> candidates;
  if (chosen != nullptr && !is_folder(chosen)) return {chosen};
  const std::string folder = chosen != nullptr ? std::string(chosen) + "/" : "";
  for (const char* file : kFiles)
    candidates.push_back(folder + file);
  if (chosen != nullptr) return candidates;
  for (const char* file : kFiles)
    candidates.push_back(std::string(kToolkitFolder) + file);
  return candidates;
}

Result<CublasLt> open_cublaslt(std::span<const std::string> candidates) {
  std::string tried;
  std::string reason;
  for (const std::string& path : candidates) {
    // Never closed again: threads of the library may outlive any moment that could be right.
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return take_functions(library, path);
    if (const char* text = dlerror()) reason = text;
    tried += (tried.empty() ? "" : ", ") + path;
  }
  return Status::error(StatusCode::kNotFound, "cuBLASLt: expected one of %s, found none (%s)",
                       tried.c_str(), reason.c_str());
}

}  // namespace flexq
