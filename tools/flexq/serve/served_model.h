// A model with the engine that answers requests to it.
#pragma once

#include <flexq.h>

#include <memory>
#include <string>

#include "serve/engine_totals.h"
#include "tool_handles.h"
#include "tool_options.h"

namespace flexq_tool {

using EngineOptions = std::unique_ptr<flexq_engine_options, Releaser<flexq_engine_options_release>>;
using Engine = std::unique_ptr<flexq_engine, Releaser<flexq_engine_release>>;

// How engines are made; the values of the command line, 0 and "auto" where they follow from model
// and machine.
struct EngineSettings {
  int32_t context_tokens = 0;
  int32_t n_sequences = 0;
  int32_t cache_tokens = 0;
  int32_t step_tokens = 0;
  int32_t queue = 0;
  std::string kv_type = "auto";
};

class ServedModel {
 public:
  // Loads the source and makes its engine. `settings` gets what followed from model and machine,
  // for the next one to be alike. nullptr after a report; exit_code says how the tool ends then.
  static std::shared_ptr<ServedModel> load(const Source& source, const std::string& name,
                                           const CommonOptions& common, EngineSettings& settings,
                                           EngineTotals& totals, int& exit_code);
  // Cancels what still runs.
  ~ServedModel();

  flexq_engine* engine() const { return engine_.get(); }
  const flexq_model* model() const { return model_.get(); }
  const flexq_tokenizer* tokenizer() const { return tokenizer_.get(); }  // nullptr: none
  const flexq_model_info& info() const { return info_; }
  const flexq_plan& plan() const { return plan_; }

 private:
  explicit ServedModel(EngineTotals& totals) : totals_(totals) {}
  int create(const Source& source, const std::string& name, const CommonOptions& common,
             EngineSettings& settings);
  int create_engine(const EngineSettings& settings);

  EngineTotals& totals_;
  Model model_;
  Tokenizer tokenizer_;
  Context context_;
  Engine engine_;
  flexq_model_info info_ = {};
  flexq_plan plan_ = {};
};

}  // namespace flexq_tool
