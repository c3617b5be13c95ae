/* What a model will take, then the model, with progress:  load MODEL.flexq */
#include <flexq.h>
#include <inttypes.h>
#include <stdio.h>

static int32_t print_progress(int64_t done, int64_t total, void* user_data) {
  fprintf((FILE*)user_data, "\rloading: %3d%%", total > 0 ? (int)(100 * done / total) : 100);
  return 0; /* non-zero would cancel */
}

static flexq_status print_plan(flexq_source* source) {
  flexq_plan plan = {.struct_size = sizeof plan};
  const flexq_status status = flexq_model_plan(source, NULL, NULL, 0, &plan);
  if (status != FLEXQ_OK) return status;
  printf("plan for %s: %" PRId64 " bytes\n", plan.device, plan.total_bytes);
  printf("  weights %" PRId64 ", KV cache %" PRId64 " (%" PRId32 " tokens), workspace %" PRId64
         "\n",
         plan.weight_bytes, plan.kv_bytes, plan.context_tokens, plan.workspace_bytes);
  return FLEXQ_OK;
}

static flexq_status print_model(const flexq_model* model) {
  flexq_model_info info = {.struct_size = sizeof info};
  flexq_status status = flexq_model_get_info(model, &info);
  if (status != FLEXQ_OK) return status;
  printf("model: %" PRId64 " parameters, %" PRId32 " layers, vocabulary %" PRId32 "\n",
         info.n_parameters, info.n_layers, info.n_vocab);
  printf("policy %s, %.3f bits per weight, on %s with %s kernels, %" PRId32 " threads\n",
         info.policy, info.bits_per_weight, info.device, info.kernels, info.n_threads);
  for (int32_t i = 0; i < flexq_model_tensor_count(model) && status == FLEXQ_OK; ++i) {
    flexq_tensor_info tensor = {.struct_size = sizeof tensor};
    status = flexq_model_get_tensor_info(model, i, &tensor);
    if (status == FLEXQ_OK)
      printf("  %-48s %6" PRId64 " x %-6" PRId64 " w%" PRId32 "a%" PRId32 "\n", tensor.name,
             tensor.rows, tensor.cols, tensor.weight_bits, tensor.activation_bits);
  }
  return status;
}

int main(int argc, char** argv) {
  flexq_source* source = NULL;
  flexq_model_options* options = NULL;
  flexq_model* model = NULL;
  flexq_status status;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL.flexq\n", argv[0]);
    return 2;
  }
  status = flexq_source_open(argv[1], &source);
  if (status == FLEXQ_OK) status = print_plan(source);
  if (status == FLEXQ_OK) status = flexq_model_options_create(&options);
  if (status == FLEXQ_OK)
    status = flexq_model_options_set_progress(options, print_progress, stderr);
  if (status == FLEXQ_OK) status = flexq_model_load(source, options, &model);
  fprintf(stderr, "\n");
  if (status == FLEXQ_OK) status = print_model(model);
  if (status != FLEXQ_OK)
    fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
  flexq_model_release(model);
  flexq_model_options_release(options);
  flexq_source_release(source);
  return status == FLEXQ_OK ? 0 : 1;
}
