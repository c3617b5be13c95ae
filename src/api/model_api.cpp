// Sources, models and plans.
#include <charconv>
#include <string_view>

#include "api/handles.h"
#include "base/ed25519_keys.h"
#include "base/file.h"
#include "kernels/cpu/cpu_kernels.h"
#include "quantize/synthetic_model.h"

using flexq::ModelPlan;
using flexq::Result;
using flexq::Status;
using flexq::StatusCode;
using flexq::api::copy_name;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

// The caller's read callback as a ByteSource.
class CallbackSource : public flexq::ByteSource {
 public:
  CallbackSource(int64_t size, flexq_read_callback read, void* user_data)
      : size_(size), read_(read), user_data_(user_data) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return size_; }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    const auto n = static_cast<int64_t>(out.size());
    if (offset < 0 || offset > size_ || n > size_ - offset) {
      return Status::error(StatusCode::kCorrupt,
                           "callbacks: expected at most %lld bytes, found a read of %lld at %lld",
                           static_cast<long long>(size_), static_cast<long long>(n),
                           static_cast<long long>(offset));
    }
    const int32_t code = read_(offset, out.data(), n, user_data_);
    if (code == 0) return Status();
    return Status::error(StatusCode::kIo,
                         "read callback: expected 0 for %lld bytes at %lld, found %d",
                         static_cast<long long>(n), static_cast<long long>(offset), code);
  }

 private:
  const std::string name_ = "callbacks";
  const int64_t size_;
  const flexq_read_callback read_;
  void* const user_data_;
};

flexq::LoadOptions load_options(const flexq_model_options* options) {
  return options != nullptr ? options->load : flexq::LoadOptions();
}

// Sets the kernel set of one kind of device: "auto" or one of `names`.
Status set_kernels(const char* key, std::span<const char* const> names, std::string_view value,
                   std::string& kernels) {
  std::string expected = "auto";
  bool known = value == expected;
  for (const char* name : names) {
    known = known || value == name;
    expected.append(", ").append(name);
  }
  if (!known) {
    return Status::error(StatusCode::kUnsupportedValue, "%s: expected one of %s, found \"%.100s\"",
                         key, expected.c_str(), std::string(value).c_str());
  }
  kernels = value;
  return Status();
}

Status set_model_option(flexq::LoadOptions& load, std::string_view key, std::string_view value) {
  flexq::DeviceOptions& device = load.device_options;
  if (key == "cpu.kernels") {
    return set_kernels("cpu.kernels", flexq::cpu_kernel_names(), value, device.cpu_kernels);
  }
  if (key == "cuda.kernels") {
    return set_kernels("cuda.kernels", flexq::kCudaKernelNames, value, device.cuda_kernels);
  }
  if (key == "max_decoded_bytes") {
    int64_t bytes = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bytes);
    if (error != std::errc() || end != value.data() + value.size() || bytes < 1) {
      return Status::error(StatusCode::kUnsupportedValue,
                           "max_decoded_bytes: expected a positive number, found \"%.100s\"",
                           std::string(value).c_str());
    }
    load.max_decoded_bytes = bytes;
    return Status();
  }
  return Status::error(
      StatusCode::kUnknownOption,
      "model option: expected cpu.kernels, cuda.kernels or max_decoded_bytes, found "
      "\"%.100s\"",
      std::string(key).c_str());
}

}  // namespace

extern "C" {

flexq_status flexq_source_open(const char* path, flexq_source** source) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(path);
    FLEXQ_REQUIRE(source);
    if (!flexq::is_directory(path) && !flexq::is_regular_file(path)) {
      return Status::error(StatusCode::kNotFound,
                           "%s: expected a bundle file or a checkpoint folder, found neither",
                           path);
    }
    auto made = std::make_unique<flexq_source>();
    made->source.path = path;
    *source = made.release();
    return Status();
  });
}

flexq_status flexq_source_from_memory(const void* bytes, int64_t n_bytes, flexq_source** source) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(bytes);
    FLEXQ_REQUIRE(source);
    if (n_bytes < 0) return flexq::api::negative_length("n_bytes", n_bytes);
    auto made = std::make_unique<flexq_source>();
    made->source.memory = {static_cast<const uint8_t*>(bytes), static_cast<size_t>(n_bytes)};
    *source = made.release();
    return Status();
  });
}

flexq_status flexq_source_from_callback(int64_t size_bytes, flexq_read_callback read,
                                        void* user_data, flexq_source** source) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(read);
    FLEXQ_REQUIRE(source);
    if (size_bytes < 0) return flexq::api::negative_length("size_bytes", size_bytes);
    auto made = std::make_unique<flexq_source>();
    made->source.bytes = std::make_shared<CallbackSource>(size_bytes, read, user_data);
    *source = made.release();
    return Status();
  });
}

flexq_status flexq_source_synthetic(const char* shape, const flexq_quantize_options* options,
                                    flexq_source** source) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(shape);
    FLEXQ_REQUIRE(source);
    const flexq::QuantizeOptions precision =
        options != nullptr ? options->options : flexq::QuantizeOptions();
    auto made = std::make_unique<flexq_source>();
    FLEXQ_ASSIGN_OR_RETURN(made->source.weights, flexq::make_synthetic_model(shape, precision));
    made->source.policy = precision.policy;
    *source = made.release();
    return Status();
  });
}

flexq_status flexq_source_require_key(flexq_source* source, const char* pem, int64_t pem_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(source);
    FLEXQ_REQUIRE(pem);
    const Held held(source);
    std::string_view text;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("pem", pem, pem_bytes, &text));
    FLEXQ_ASSIGN_OR_RETURN(held->source.required_key, flexq::parse_public_key(text));
    return Status();
  });
}

void flexq_source_release(flexq_source* source) {
  flexq::api::drop_reference(source);
}

flexq_status flexq_model_options_create(flexq_model_options** options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    *options = new flexq_model_options;
    return Status();
  });
}

void flexq_model_options_release(flexq_model_options* options) {
  flexq::api::drop_reference(options);
}

flexq_status flexq_model_options_set_device(flexq_model_options* options, const char* device) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(device);
    options->load.device = device;
    return Status();
  });
}

flexq_status flexq_model_options_set_threads(flexq_model_options* options, int32_t n_threads) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads) {
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    }
    options->load.n_threads = n_threads;
    return Status();
  });
}

flexq_status flexq_model_options_set_progress(flexq_model_options* options,
                                              flexq_progress_callback callback, void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    options->progress = callback;
    options->progress_user_data = user_data;
    return Status();
  });
}

flexq_status flexq_model_options_set(flexq_model_options* options, const char* key,
                                     const char* value) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(key);
    FLEXQ_REQUIRE(value);
    return set_model_option(options->load, key, value);
  });
}

flexq_status flexq_model_load(flexq_source* source, const flexq_model_options* options,
                              flexq_model** model) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(source);
    FLEXQ_REQUIRE(model);
    const Held held(source);
    const flexq_progress_callback callback = options != nullptr ? options->progress : nullptr;
    void* const user_data = options != nullptr ? options->progress_user_data : nullptr;
    const auto progress = [&](int64_t done, int64_t total) {
      return callback != nullptr && callback(done, total, user_data) != 0;
    };
    auto made = std::make_unique<flexq_model>();
    FLEXQ_ASSIGN_OR_RETURN(made->model,
                           flexq::load_model(held->source, load_options(options), progress));
    *model = made.release();
    return Status();
  });
}

void flexq_model_release(flexq_model* model) {
  flexq::api::drop_reference(model);
}

flexq_status flexq_model_get_info(const flexq_model* model, flexq_model_info* info) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    const Held<const flexq_model> held(model);
    const flexq::LoadedModel& loaded = *held->model;
    const flexq::ModelConfig& config = loaded.llama->config();
    const flexq::WeightPlan& plan = loaded.llama->plan();
    const flexq::DeviceDescription device = loaded.llama->device().describe();
    flexq_model_info filled = {};
    filled.n_layers = config.n_layers;
    filled.n_embd = config.n_embd;
    filled.n_heads = config.n_heads;
    filled.n_kv_heads = config.n_kv_heads;
    filled.head_dim = config.head_dim;
    filled.n_ff = config.n_ff;
    filled.n_vocab = config.n_vocab;
    filled.context_tokens = config.context_tokens;
    filled.bos_token_id = config.bos_token_id;
    filled.n_threads = loaded.pool->n_threads();
    filled.n_parameters = plan.n_parameters;
    filled.weight_bytes = plan.total_bytes;
    filled.decode_weight_bytes = plan.decode_bytes;
    const bool quantized = plan.quantized_weights > 0;
    filled.bits_per_weight =
        8.0 * static_cast<double>(quantized ? plan.quantized_bytes : plan.linear_bytes) /
        static_cast<double>(quantized ? plan.quantized_weights : plan.linear_weights);
    copy_name(filled.policy, loaded.policy);
    copy_name(filled.device, device.id);
    copy_name(filled.kernels, device.kernels);
    return flexq::api::fill_info(filled, info);
  });
}

int32_t flexq_model_tensor_count(const flexq_model* model) {
  if (model == nullptr) return 0;
  const Held<const flexq_model> held(model);
  return static_cast<int32_t>(held->model->llama->tensors().size());
}

flexq_status flexq_model_get_tensor_info(const flexq_model* model, int32_t index,
                                         flexq_tensor_info* info) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    const Held<const flexq_model> held(model);
    const auto& tensors = held->model->llama->tensors();
    if (index < 0 || static_cast<size_t>(index) >= tensors.size()) {
      return Status::error(StatusCode::kInvalidArgument,
                           "tensor index: expected 0 to %zu, found %d", tensors.size() - 1, index);
    }
    const flexq::StoredTensor& tensor = tensors[static_cast<size_t>(index)];
    flexq_tensor_info filled = {};
    filled.weight_bits = flexq::weight_bits(tensor.format);
    filled.activation_bits = tensor.activation_bits;
    filled.group_size = flexq::is_grouped(tensor.format) ? flexq::kGroupSize : 0;
    filled.rows = tensor.spec.rows;
    filled.cols = tensor.spec.cols;
    copy_name(filled.name, tensor.spec.name);
    return flexq::api::fill_info(filled, info);
  });
}

int32_t flexq_model_is_end_token(const flexq_model* model, int32_t token) {
  if (model == nullptr) return 0;
  const Held<const flexq_model> held(model);
  return held->model->is_end_token(token) ? 1 : 0;
}

flexq_status flexq_model_plan(flexq_source* source, const flexq_model_options* options,
                              const flexq_context_options* context_options, int32_t device_index,
                              flexq_plan* plan) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(source);
    FLEXQ_REQUIRE(plan);
    FLEXQ_RETURN_IF_ERROR(flexq::api::check_info(plan));
    if (device_index != 0) return flexq::api::invalid_range("device_index", 0, 0, device_index);
    const Held held(source);
    FLEXQ_ASSIGN_OR_RETURN(const ModelPlan planned,
                           flexq::plan_model(held->source, load_options(options),
                                             context_options != nullptr ? context_options->options
                                                                        : flexq::ContextOptions()));
    return flexq::api::fill_info(
        flexq::api::plan_info(planned.device, planned.weights, planned.context), plan);
  });
}

}  // extern "C"
