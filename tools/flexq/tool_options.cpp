#include "tool_options.h"

#include <charconv>

#include "progress_bar.h"
#include "terminal_output.h"

namespace flexq_tool {
namespace {

int make_model_options(const CommonOptions& common, ProgressBar& progress, ModelOptions& options) {
  if (const flexq_status status = flexq_model_options_create(Out(options)); status != FLEXQ_OK) {
    return report_failure("model options", status);
  }
  if (flexq_model_options_set_device(options.get(), common.device.c_str()) != FLEXQ_OK) {
    return report_usage("--device");
  }
  if (flexq_model_options_set_threads(options.get(), common.n_threads) != FLEXQ_OK) {
    return report_usage("--threads");
  }
  flexq_model_options_set_progress(options.get(), ProgressBar::callback, &progress);
  return kExitOk;
}

}  // namespace

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

void add_common_options(CLI::App& command, CommonOptions& options) {
  command.add_flag("--json", options.json, "Print one JSON object and nothing else");
  add_number(command, "--threads", options.n_threads, "N",
             "Threads that compute; 0: every processor")
      ->check(integer_from(0, INT32_MAX));
  command.add_option("--device", options.device, "auto or cpu")
      ->capture_default_str()
      ->type_name("ID");
}

int open_source(const std::string& path, Source& source) {
  const flexq_status status = flexq_source_open(path.c_str(), Out(source));
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

int load_model(const std::string& path, const CommonOptions& common, Model& model) {
  ProgressBar progress("loading");
  ModelOptions options;
  if (const int code = make_model_options(common, progress, options); code != kExitOk) return code;
  Source source;
  if (const int code = open_source(path, source); code != kExitOk) return code;
  const flexq_status status = flexq_model_load(source.get(), options.get(), Out(model));
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

int open_bundle(const std::string& path, Bundle& bundle) {
  Source source;
  if (const int code = open_source(path, source); code != kExitOk) return code;
  const flexq_status status = flexq_bundle_open(source.get(), Out(bundle));
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

int read_bundle_json(const std::string& path, const Bundle& bundle, std::string& json) {
  int64_t n_bytes = 0;
  flexq_status status = flexq_bundle_json(bundle.get(), nullptr, 0, &n_bytes);
  if (status == FLEXQ_ERROR_BUFFER_TOO_SMALL) {
    json.resize(static_cast<size_t>(n_bytes));
    status = flexq_bundle_json(bundle.get(), json.data(), n_bytes, &n_bytes);
  }
  return status == FLEXQ_OK ? kExitOk : report_failure(path, status);
}

}  // namespace flexq_tool
