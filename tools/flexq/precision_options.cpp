#include "precision_options.h"

#include "terminal_output.h"

namespace flexq_tool {

void add_matrix_bits_options(CLI::App& command, PrecisionOptions& precision) {
  const auto add = [&command](const char* name, std::string& bits, const char* help) {
    command.add_option(name, bits, help)->capture_default_str()->type_name("8|16");
  };
  add("--embedding-bits", precision.embedding_bits,
      "8: the embedding in 8 bits with one scale per row; 16: as in the checkpoint");
  add("--lm-head-bits", precision.lm_head_bits,
      "Likewise for lm_head; where both are one matrix, either option quantizes it");
}

int make_quantize_options(const PrecisionOptions& precision, int32_t n_threads,
                          QuantizeOptions& options) {
  if (const flexq_status status = flexq_quantize_options_create(Out(options)); status != FLEXQ_OK) {
    return report_failure("quantize options", status);
  }
  flexq_quantize_options* const to = options.get();
  if (flexq_quantize_options_set_policy(to, precision.policy.c_str()) != FLEXQ_OK) {
    return report_usage("--policy");
  }
  if (flexq_quantize_options_set(to, "embedding_bits", precision.embedding_bits.c_str()) !=
      FLEXQ_OK) {
    return report_usage("--embedding-bits");
  }
  if (flexq_quantize_options_set(to, "lm_head_bits", precision.lm_head_bits.c_str()) != FLEXQ_OK) {
    return report_usage("--lm-head-bits");
  }
  return flexq_quantize_options_set_threads(to, n_threads) == FLEXQ_OK ? kExitOk
                                                                       : report_usage("--threads");
}

int open_synthetic_source(const std::string& shape, const PrecisionOptions& precision,
                          Source& source) {
  QuantizeOptions options;
  if (const int code = make_quantize_options(precision, 0, options); code != kExitOk) return code;
  const flexq_status status = flexq_source_synthetic(shape.c_str(), options.get(), Out(source));
  if (status == FLEXQ_ERROR_UNSUPPORTED_VALUE) return report_usage("--shape");
  return status == FLEXQ_OK ? kExitOk : report_failure(shape, status);
}

}  // namespace flexq_tool
