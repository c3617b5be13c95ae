// The model that new requests go to. Another one can take its place while requests run: they keep
// theirs until they end.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "serve/serve_options.h"
#include "serve/served_model.h"

namespace flexq_tool {

class ModelSlot {
 public:
  explicit ModelSlot(const ServeOptions& options);

  // Loads the model of the command line; reports failures. Returns an exit code.
  int load_first();
  // Loads a model beside the present one and puts it in its place. `path`: the command line's, or a
  // file in the same folder, with or without the folder's name; empty: the present one again.
  // Throws ApiError, and the present model stays.
  void reload(const std::string& path);

  std::shared_ptr<ServedModel> current() const;
  // What requests call the model.
  const std::string& name() const { return name_; }
  int64_t created() const { return created_; }  // when the present model was loaded, Unix seconds
  flexq_engine_metrics metrics() const { return totals_.sum(); }
  int64_t n_reloads() const { return n_reloads_; }
  int64_t n_failed_reloads() const { return n_failed_reloads_; }

 private:
  std::string allowed_path(const std::string& path) const;
  int load(const std::string& path);

  const ServeOptions& options_;
  std::string name_;
  EngineTotals totals_;
  EngineSettings settings_;
  std::mutex loading_;  // one at a time
  mutable std::mutex mutex_;
  std::string path_;  // of current_
  std::shared_ptr<ServedModel> current_;
  std::atomic<int64_t> created_ = 0;
  std::atomic<int64_t> n_reloads_ = 0;
  std::atomic<int64_t> n_failed_reloads_ = 0;
};

}  // namespace flexq_tool
