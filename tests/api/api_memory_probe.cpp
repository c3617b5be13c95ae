// api_memory_probe BUNDLE_OR_CHECKPOINT: loads a model, generates, and prints
//   PLANNED_BYTES PEAK_BYTES
// where the peak is what the kernel counted for this process (VmHWM).
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include "flexq.h"

namespace {

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    long long kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %lld kB", &kib) == 1) return int64_t{1024} * kib;
  }
  return -1;
}

// Every part of the planned memory is touched: the longest prompt, and each row of the workspace.
flexq_status generate_to_the_end(flexq_generator* generator, int32_t n_prompt, int32_t n_vocab) {
  int32_t tokens[4096];
  if (n_prompt > 4096) n_prompt = 4096;
  for (int32_t i = 0; i < n_prompt; ++i)
    tokens[i] = 3 + i * 7 % (n_vocab - 3);
  flexq_status status = flexq_generator_start_tokens(generator, tokens, n_prompt);
  if (status == FLEXQ_OK) status = flexq_generator_run(generator, nullptr, nullptr);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  flexq_source* source = nullptr;
  flexq_model_options* model_options = nullptr;
  flexq_model* model = nullptr;
  flexq_context* context = nullptr;
  flexq_generator_options* options = nullptr;
  flexq_generator* generator = nullptr;
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  flexq_model_info info = {};
  info.struct_size = sizeof info;

  flexq_status status = flexq_source_open(argv[1], &source);
  if (status == FLEXQ_OK) status = flexq_model_options_create(&model_options);
  if (status == FLEXQ_OK) status = flexq_model_options_set_threads(model_options, 4);
  if (status == FLEXQ_OK) status = flexq_model_plan(source, model_options, nullptr, 0, &plan);
  if (status == FLEXQ_OK) status = flexq_model_load(source, model_options, &model);
  if (status == FLEXQ_OK) status = flexq_model_get_info(model, &info);
  if (status == FLEXQ_OK) status = flexq_context_create(model, nullptr, &context);
  if (status == FLEXQ_OK) status = flexq_generator_options_create(&options);
  if (status == FLEXQ_OK) status = flexq_generator_options_set_max_tokens(options, 0);
  if (status == FLEXQ_OK) status = flexq_generator_options_set_ignore_end(options, 1);
  if (status == FLEXQ_OK) status = flexq_generator_create(context, options, &generator);
  if (status == FLEXQ_OK) {
    status = generate_to_the_end(generator, plan.context_tokens - 32, info.n_vocab);
  }
  if (status != FLEXQ_OK) {
    std::fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
    return 1;
  }
  std::printf("%lld %lld\n", static_cast<long long>(plan.total_bytes),
              static_cast<long long>(peak_resident_bytes()));
  flexq_generator_release(generator);
  flexq_generator_options_release(options);
  flexq_context_release(context);
  flexq_model_release(model);
  flexq_model_options_release(model_options);
  flexq_source_release(source);
  return 0;
}
