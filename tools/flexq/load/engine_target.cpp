#include "load/engine_target.h"

#include "interrupt.h"
#include "serve/answers.h"

namespace flexq_tool {
namespace {

constexpr int64_t kPollMs = 100;

class EngineClient final : public LoadClient {
 public:
  explicit EngineClient(flexq_engine* engine) : engine_(engine) {}

  LoadSample run(const LoadRequest& request) override {
    LoadSample sample;
    sample.begin = LoadSample::Clock::now();
    const flexq_status status = generate(request, sample);
    if (sample.end < sample.begin) sample.end = LoadSample::Clock::now();
    sample.is_refused = status == FLEXQ_ERROR_QUEUE_FULL;
    if (status != FLEXQ_OK && !sample.is_refused) sample.error = flexq_last_error();
    return sample;
  }

 private:
  flexq_status generate(const LoadRequest& load, LoadSample& sample) {
    GeneratorOptions options;
    flexq_status status = flexq_generator_options_create(Out(options));
    if (status != FLEXQ_OK) return status;
    flexq_generator_options_set_ignore_end(options.get(), 1);
    status = flexq_generator_options_set_max_tokens(options.get(), load.n_generate);
    if (status != FLEXQ_OK) return status;
    EngineRequest request;
    status = flexq_engine_submit_tokens(engine_, options.get(), load.prompt.data(),
                                        static_cast<int32_t>(load.prompt.size()), Out(request));
    while (status == FLEXQ_OK && interrupt_signal() == 0) {
      flexq_token_event event = {};
      event.struct_size = sizeof event;
      status = flexq_request_next(request.get(), kPollMs, &event);
      if (status != FLEXQ_OK) break;
      if (event.token >= 0) {
        sample.end = LoadSample::Clock::now();
        if (sample.n_generated++ == 0) sample.first_token = sample.end;
      }
      if (event.finish_reason != FLEXQ_FINISH_NONE) break;
    }
    return status;
  }

  flexq_engine* engine_;
};

}  // namespace

std::unique_ptr<LoadClient> EngineTarget::make_client() {
  return std::make_unique<EngineClient>(model_.engine());
}

}  // namespace flexq_tool
