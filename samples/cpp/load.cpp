// What a model will take, then the model, with progress:  load MODEL.flexq
#include <cstdio>
#include <exception>

#include "handles.h"

namespace {

// C calls this: no exception may leave it. Non-zero would cancel.
int32_t print_progress(int64_t done, int64_t total, void*) noexcept {
  std::fprintf(stderr, "\rloading: %3d%%", total > 0 ? static_cast<int>(100 * done / total) : 100);
  return 0;
}

void print_plan(const sample::Source& source) {
  flexq_plan plan{};
  plan.struct_size = sizeof plan;
  sample::check(flexq_model_plan(source.get(), nullptr, nullptr, 0, &plan));
  std::printf("plan for %s: %lld bytes\n", plan.device, static_cast<long long>(plan.total_bytes));
  std::printf("  weights %lld, KV cache %lld (%d tokens), workspace %lld\n",
              static_cast<long long>(plan.weight_bytes), static_cast<long long>(plan.kv_bytes),
              plan.context_tokens, static_cast<long long>(plan.workspace_bytes));
}

void print_model(const sample::Model& model) {
  flexq_model_info info{};
  info.struct_size = sizeof info;
  sample::check(flexq_model_get_info(model.get(), &info));
  std::printf("model: %lld parameters, %d layers, vocabulary %d\n",
              static_cast<long long>(info.n_parameters), info.n_layers, info.n_vocab);
  std::printf("policy %s, %.3f bits per weight, on %s with %s kernels, %d threads\n", info.policy,
              info.bits_per_weight, info.device, info.kernels, info.n_threads);
  for (int32_t i = 0; i < flexq_model_tensor_count(model.get()); ++i) {
    flexq_tensor_info tensor{};
    tensor.struct_size = sizeof tensor;
    sample::check(flexq_model_get_tensor_info(model.get(), i, &tensor));
    std::printf("  %-48s %6lld x %-6lld w%da%d\n", tensor.name, static_cast<long long>(tensor.rows),
                static_cast<long long>(tensor.cols), tensor.weight_bits, tensor.activation_bits);
  }
}

void load(const char* path) {
  const auto source = sample::create<sample::Source>(flexq_source_open, path);
  print_plan(source);
  const auto options = sample::create<sample::ModelOptions>(flexq_model_options_create);
  sample::check(flexq_model_options_set_progress(options.get(), print_progress, nullptr));
  const auto model = sample::create<sample::Model>(flexq_model_load, source.get(), options.get());
  std::fputs("\n", stderr);
  print_model(model);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s MODEL.flexq\n", argv[0]);
    return 2;
  }
  try {
    load(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
