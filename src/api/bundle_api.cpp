// Quantizing, inspecting, verifying and signing bundles.
#include <charconv>
#include <optional>
#include <utility>

#include "api/bundle_json.h"
#include "api/handles.h"
#include "base/ed25519_keys.h"
#include "base/hexadecimal.h"
#include "base/thread_pool.h"
#include "bundle/bundle_sign.h"
#include "quantize/precision_policy.h"
#include "quantize/synthetic_model.h"

using flexq::ModelSource;
using flexq::Status;
using flexq::api::guarded;
using flexq::api::Held;

namespace {

Status unsupported_value(std::string_view key, const char* expected, std::string_view found) {
  return Status::error(flexq::StatusCode::kUnsupportedValue, "%s: expected %s, found \"%.100s\"",
                       std::string(key).c_str(), expected, std::string(found).c_str());
}

Status set_bits(std::string_view key, std::string_view value, int32_t& bits) {
  if (value != "8" && value != "16") return unsupported_value(key, "8 or 16", value);
  bits = value == "8" ? 8 : 16;
  return Status();
}

Status set_scale_search(std::string_view value, std::optional<flexq::ScaleSearch>& search) {
  if (value == "auto") {
    search.reset();
    return Status();
  }
  constexpr std::pair<std::string_view, flexq::ScaleSearch> kNames[] = {
      {"none", flexq::ScaleSearch::kNone},
      {"error", flexq::ScaleSearch::kError},
      {"weighted", flexq::ScaleSearch::kWeighted}};
  for (const auto& [name, meaning] : kNames) {
    if (value != name) continue;
    search = meaning;
    return Status();
  }
  return unsupported_value("scale_search", "auto, none, error or weighted", value);
}

Status set_calibration_windows(std::string_view value, int32_t& n_windows) {
  int32_t parsed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  const bool is_number = error == std::errc() && end == value.data() + value.size();
  if (!is_number || parsed < flexq::kMinCalibrationWindows ||
      parsed > flexq::kMaxCalibrationWindows) {
    return unsupported_value("calibration_windows", "4 to 4096", value);
  }
  n_windows = parsed;
  return Status();
}

Status set_quantize_option(flexq::QuantizeOptions& options, std::string_view key,
                           std::string_view value) {
  if (key == "embedding_bits") return set_bits(key, value, options.embedding_bits);
  if (key == "lm_head_bits") return set_bits(key, value, options.lm_head_bits);
  if (key == "scale_search") return set_scale_search(value, options.scale_search);
  if (key == "equalization") {
    if (value != "auto" && value != "on" && value != "none")
      return unsupported_value(key, "auto, on or none", value);
    options.equalize.reset();
    if (value != "auto") options.equalize = value == "on";
    return Status();
  }
  if (key == "calibration_windows")
    return set_calibration_windows(value, options.calibration_windows);
  if (key == "force") {
    if (value != "0" && value != "1") return unsupported_value(key, "0 or 1", value);
    options.goal.force = value == "1";
    return Status();
  }
  return Status::error(flexq::StatusCode::kUnknownOption,
                       "quantize option: expected embedding_bits, lm_head_bits, scale_search, "
                       "equalization, calibration_windows or force, found \"%.100s\"",
                       std::string(key).c_str());
}

}  // namespace

extern "C" {

flexq_status flexq_quantize_options_create(flexq_quantize_options** options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    *options = new flexq_quantize_options;
    return Status();
  });
}

void flexq_quantize_options_release(flexq_quantize_options* options) {
  flexq::api::drop_reference(options);
}

flexq_status flexq_quantize_options_set_policy(flexq_quantize_options* options,
                                               const char* policy) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(policy);
    if (policy != flexq::kAutoPolicy) {
      const auto found = flexq::find_precision_policy(policy);
      if (!found.ok()) return found.status();
    }
    options->options.policy = policy;
    return Status();
  });
}

flexq_status flexq_quantize_options_set(flexq_quantize_options* options, const char* key,
                                        const char* value) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    FLEXQ_REQUIRE(key);
    FLEXQ_REQUIRE(value);
    return set_quantize_option(options->options, key, value);
  });
}

flexq_status flexq_quantize_options_set_calibration(flexq_quantize_options* options,
                                                    const char* text, int64_t text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("text", text, text_bytes, &view));
    options->options.calibration_text = std::string(view);
    return Status();
  });
}

flexq_status flexq_quantize_options_set_perplexity_budget(flexq_quantize_options* options,
                                                          double budget) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (!(budget >= 0 && budget <= 1)) return flexq::api::invalid_range("budget", 0, 1, budget);
    options->options.goal.perplexity_budget.reset();
    if (budget > 0) options->options.goal.perplexity_budget = budget;
    return Status();
  });
}

flexq_status flexq_quantize_options_set_a8_fraction(flexq_quantize_options* options,
                                                    double fraction) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (!(fraction <= 1)) return flexq::api::invalid_range("fraction", 0, 1, fraction);
    options->options.goal.a8_fraction.reset();
    if (fraction >= 0) options->options.goal.a8_fraction = fraction;
    return Status();
  });
}

flexq_status flexq_quantize_options_set_threads(flexq_quantize_options* options,
                                                int32_t n_threads) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads) {
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    }
    options->options.n_threads = n_threads;
    return Status();
  });
}

flexq_status flexq_quantize_options_set_progress(flexq_quantize_options* options,
                                                 flexq_progress_callback callback,
                                                 void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(options);
    options->options.progress = {callback, user_data};
    return Status();
  });
}

flexq_status flexq_quantize(const char* checkpoint_directory, const char* output_path,
                            const flexq_quantize_options* options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(checkpoint_directory);
    FLEXQ_REQUIRE(output_path);
    return flexq::quantize_checkpoint(
        checkpoint_directory, output_path,
        options != nullptr ? options->options : flexq::QuantizeOptions());
  });
}

flexq_status flexq_quantize_synthetic(const char* shape, const char* output_path,
                                      const flexq_quantize_options* options) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(shape);
    FLEXQ_REQUIRE(output_path);
    return flexq::quantize_synthetic_model(
        shape, output_path, options != nullptr ? options->options : flexq::QuantizeOptions());
  });
}

flexq_status flexq_bundle_open(flexq_source* source, flexq_bundle** bundle) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(source);
    FLEXQ_REQUIRE(bundle);
    const Held held(source);
    FLEXQ_ASSIGN_OR_RETURN(const ModelSource::Kind kind, held->source.kind());
    if (kind != ModelSource::Kind::kBundle) {
      const bool is_folder = kind == ModelSource::Kind::kFolder;
      return Status::error(flexq::StatusCode::kInvalidArgument, "%s: expected a bundle, found %s",
                           is_folder ? held->source.path.c_str() : "source",
                           is_folder ? "a folder" : "synthetic weights");
    }
    auto made = std::make_unique<flexq_bundle>();
    FLEXQ_ASSIGN_OR_RETURN(made->bundle, held->source.open_bundle(flexq::BundleLimits()));
    FLEXQ_ASSIGN_OR_RETURN(made->json, flexq::api::bundle_json(*made->bundle));
    *bundle = made.release();
    return Status();
  });
}

void flexq_bundle_release(flexq_bundle* bundle) {
  flexq::api::drop_reference(bundle);
}

flexq_status flexq_bundle_json(const flexq_bundle* bundle, char* text, int64_t capacity,
                               int64_t* text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(bundle);
    const Held held(bundle);
    return flexq::api::fill_text(held->json, text, capacity, text_bytes);
  });
}

flexq_status flexq_bundle_signer(const flexq_bundle* bundle, char* text, int64_t capacity,
                                 int64_t* text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(bundle);
    const Held held(bundle);
    const flexq::Ed25519PublicKey* signer = held->bundle->signer();
    return flexq::api::fill_text(signer != nullptr ? flexq::hexadecimal(*signer) : std::string(),
                                 text, capacity, text_bytes);
  });
}

flexq_status flexq_bundle_verify(const flexq_bundle* bundle, int32_t n_threads,
                                 flexq_progress_callback progress, void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(bundle);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads) {
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    }
    const Held held(bundle);
    flexq::ThreadPool pool(n_threads > 0 ? n_threads : flexq::available_cpus());
    return held->bundle->verify(pool, {progress, user_data});
  });
}

flexq_status flexq_bundle_sign(const char* path, const char* pem, int64_t pem_bytes,
                               int32_t n_threads, flexq_progress_callback progress,
                               void* user_data) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(path);
    FLEXQ_REQUIRE(pem);
    if (n_threads < 0 || n_threads > flexq::ThreadPool::kMaxThreads) {
      return flexq::api::invalid_range("n_threads", 0, flexq::ThreadPool::kMaxThreads, n_threads);
    }
    std::string_view text;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("pem", pem, pem_bytes, &text));
    FLEXQ_ASSIGN_OR_RETURN(const flexq::Ed25519SecretKey key, flexq::parse_secret_key(text));
    flexq::ThreadPool pool(n_threads > 0 ? n_threads : flexq::available_cpus());
    return flexq::sign_bundle(path, key, pool, {progress, user_data});
  });
}

}  // extern "C"
