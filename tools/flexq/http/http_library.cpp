#include "http_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "terminal_output.h"

namespace flexq_tool {

const HttpTransport* load_http_transport() {
  // The tool links libflexq.so: the library is in the same folder.
  Dl_info self = {};
  if (dladdr(reinterpret_cast<const void*>(&flexq_version), &self) == 0) self.dli_fname = "";
  const std::string path =
      (std::filesystem::path(self.dli_fname).parent_path() / kHttpTransportFile).string();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const void* symbol = library != nullptr ? dlsym(library, kHttpTransportSymbol) : nullptr;
  if (symbol == nullptr) {
    const char* reason = dlerror();
    report_failure(path, std::string_view(reason != nullptr ? reason : "cannot be loaded"));
  }
  return static_cast<const HttpTransport*>(symbol);
}

}  // namespace flexq_tool
