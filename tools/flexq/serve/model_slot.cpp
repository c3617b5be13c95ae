#include "serve/model_slot.h"

#include <ctime>
#include <filesystem>

#include "serve/api_error.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

// "llama-2-7b" for "models/llama-2-7b.flexq" and for "models/llama-2-7b/".
std::string model_name(const std::string& path) {
  std::filesystem::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  return name.extension() == ".flexq" ? name.stem().string() : name.filename().string();
}

}  // namespace

ModelSlot::ModelSlot(const ServeOptions& options)
    : options_(options),
      name_(options.model_name.empty() ? model_name(options.model) : options.model_name) {
  settings_.context_tokens = options.context_tokens;
  settings_.n_sequences = options.n_sequences;
  settings_.cache_tokens = options.cache_tokens;
  settings_.step_tokens = options.step_tokens;
  settings_.queue = options.queue;
  settings_.kv_type = options.kv_type;
}

int ModelSlot::load_first() {
  const std::lock_guard only_one(loading_);
  return load(options_.model);
}

void ModelSlot::reload(const std::string& path) {
  const std::unique_lock only_one(loading_, std::try_to_lock);
  if (!only_one.owns_lock()) throw ApiError(409, "another model is being loaded");
  std::string new_path = path_;
  if (!path.empty()) new_path = allowed_path(path);
  try {
    if (load(new_path) != kExitOk) throw ApiError(500, flexq_last_error(), "path");
  } catch (const std::exception&) {
    ++n_failed_reloads_;
    throw;
  }
  ++n_reloads_;
}

std::shared_ptr<ServedModel> ModelSlot::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::string ModelSlot::allowed_path(const std::string& path) const {
  namespace fs = std::filesystem;
  if (path == options_.model) return path;
  const fs::path folder = fs::path(options_.model).parent_path();
  const fs::path asked(path);
  const fs::path file = asked.filename();
  if (file.empty() || file == "." || file == ".." || path.find('\0') != std::string::npos ||
      (asked.has_parent_path() && asked.parent_path() != folder)) {
    throw ApiError(
        400, "path: expected a file in the folder of the model on the command line, found " + path,
        "path");
  }
  return (folder / file).string();
}

int ModelSlot::load(const std::string& path) {
  Source source;
  if (const int code = open_source(path, options_.common, source); code != kExitOk) return code;
  int code = kExitOk;
  std::shared_ptr<ServedModel> loaded =
      ServedModel::load(source, path, options_.common, settings_, totals_, code);
  if (code != kExitOk) return code;
  {
    const std::lock_guard lock(mutex_);
    current_.swap(loaded);
    path_ = path;
  }
  created_ = std::time(nullptr);
  // The last request to the old one, or else this scope, frees it.
  return kExitOk;
}

}  // namespace flexq_tool
