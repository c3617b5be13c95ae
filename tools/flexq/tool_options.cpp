#include "tool_options.h"

#include <charconv>

#include "file_input.h"
#include "progress_bar.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

using BundleText = flexq_status (*)(const flexq_bundle*, char*, int64_t, int64_t*);

int read_text(BundleText read, const std::string& path, const Bundle& bundle, std::string& text) {
  int64_t n_bytes = 0;
  flexq_status status = read(bundle.get(), nullptr, 0, &n_bytes);
  text.resize(static_cast<size_t>(n_bytes));
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    status = read(bundle.get(), text.data(), n_bytes, &n_bytes);
  }
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

}  // namespace

int make_model_options(const CommonOptions& common, ModelOptions& options) {
  if (const flexq_status status = flexq_model_options_create(Out(options)); status != FLEXQ_OK) {
    return report_failure("model options", status);
  }
  if (flexq_model_options_set_device(options.get(), common.device.c_str()) != FLEXQ_OK) {
    return report_usage("--device");
  }
  if (flexq_model_options_set_threads(options.get(), common.n_threads) != FLEXQ_OK) {
    return report_usage("--threads");
  }
  if (flexq_model_options_set(options.get(), "cpu.kernels", common.cpu_kernels.c_str()) !=
      FLEXQ_OK) {
    return report_usage("--kernels");
  }
  if (flexq_model_options_set(options.get(), "cuda.kernels", common.cuda_kernels.c_str()) !=
      FLEXQ_OK) {
    return report_usage("--cuda-kernels");
  }
  return kExitOk;
}

CLI::Validator integer_from(int64_t min, int64_t max) {
  return CLI::Validator(
      [min, max](const std::string& text) -> std::string {
        int64_t value = 0;
        const char* end = text.data() + text.size();
        const auto parsed = std::from_chars(text.data(), end, value);
        const bool is_integer = parsed.ec == std::errc() && parsed.ptr == end;
        if (is_integer && text == std::to_string(value) && value >= min && value <= max) return "";
        return "expected an integer from " + std::to_string(min) + " to " + std::to_string(max) +
               ", found \"" + text + "\"";
      },
      "");
}

CLI::Option* add_name_list(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                           const std::string& help) {
  return app.add_option(name, values, help)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,...");
}

void add_json_option(CLI::App& command, CommonOptions& options) {
  command.add_flag("--json", options.json, "Print one JSON object and nothing else");
}

void add_threads_option(CLI::App& command, CommonOptions& options) {
  add_number(command, "--threads", options.n_threads, "N",
             "Threads that compute; 0: every processor")
      ->check(integer_from(0, INT32_MAX));
}

void add_common_options(CLI::App& command, CommonOptions& options) {
  add_json_option(command, options);
  add_threads_option(command, options);
  command
      .add_option("--device", options.device,
                  "auto (CUDA where this machine has it, else the CPU), cpu, cuda or cuda:N")
      ->capture_default_str()
      ->type_name("ID");
}

void add_public_key_option(CLI::App& command, CommonOptions& options) {
  command
      .add_option("--public-key", options.public_key_file,
                  "Ed25519 public key in PEM: take only a bundle that is signed with it")
      ->type_name("FILE");
}

void add_kernels_option(CLI::App& command, CommonOptions& options) {
  command
      .add_option("--kernels", options.cpu_kernels,
                  "CPU kernel set: auto, or one of those that flexq --version lists")
      ->capture_default_str()
      ->type_name("NAME");
  command
      .add_option("--cuda-kernels", options.cuda_kernels,
                  "CUDA kernels of 6-bit layers with quantized inputs: auto, int8 or btc (binary "
                  "tensor cores)")
      ->capture_default_str()
      ->type_name("NAME");
}

void add_kv_type_option(CLI::App& command, std::string& kv_type) {
  command
      .add_option("--kv-type", kv_type,
                  "Keys and values in the cache: f16, f32, i8 (one scale per token and head), or "
                  "auto: f16, on the CPU f32 for an unquantized checkpoint")
      ->capture_default_str()
      ->type_name("TYPE");
}

int open_source(const std::string& path, const CommonOptions& common, Source& source) {
  flexq_status status = flexq_source_open(path.c_str(), Out(source));
  if (status != FLEXQ_OK) return report_failure(path, status);
  if (common.public_key_file.empty()) return kExitOk;
  std::string pem;
  if (const int code = read_input(common.public_key_file, pem); code != kExitOk) return code;
  status = flexq_source_require_key(source.get(), pem.data(), static_cast<int64_t>(pem.size()));
  return status == FLEXQ_OK ? kExitOk : report_failure(common.public_key_file, status);
}

int load_model(const std::string& path, const CommonOptions& common, Model& model) {
  Source source;
  if (const int code = open_source(path, common, source); code != kExitOk) return code;
  return load_model(source, path, common, model);
}

int load_model(const Source& source, const std::string& name, const CommonOptions& common,
               Model& model) {
  ModelOptions options;
  if (const int code = make_model_options(common, options); code != kExitOk) return code;
  ProgressBar progress("loading");
  flexq_model_options_set_progress(options.get(), ProgressBar::callback, &progress);
  const flexq_status status = flexq_model_load(source.get(), options.get(), Out(model));
  return status == FLEXQ_OK ? kExitOk : report_failure(name, status);
}

int make_context_options(const std::string& kv_type, ContextOptions& options) {
  if (const flexq_status status = flexq_context_options_create(Out(options)); status != FLEXQ_OK) {
    return report_failure("context options", status);
  }
  return flexq_context_options_set(options.get(), "kv_type", kv_type.c_str()) == FLEXQ_OK
             ? kExitOk
             : report_usage("--kv-type");
}

int open_bundle(const std::string& path, const CommonOptions& common, Bundle& bundle) {
  Source source;
  if (const int code = open_source(path, common, source); code != kExitOk) return code;
  const flexq_status status = flexq_bundle_open(source.get(), Out(bundle));
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

int read_bundle_json(const std::string& path, const Bundle& bundle, std::string& json) {
  return read_text(flexq_bundle_json, path, bundle, json);
}

int read_signer(const std::string& path, const Bundle& bundle, std::string& key_id) {
  return read_text(flexq_bundle_signer, path, bundle, key_id);
}

}  // namespace flexq_tool
