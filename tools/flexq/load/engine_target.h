// An engine in this process as the target of a load test.
#pragma once

#include "load/load_target.h"
#include "serve/served_model.h"

namespace flexq_tool {

class EngineTarget final : public LoadTarget {
 public:
  explicit EngineTarget(const ServedModel& model) : model_(model) {}
  std::unique_ptr<LoadClient> make_client() override;

 private:
  const ServedModel& model_;
};

}  // namespace flexq_tool
