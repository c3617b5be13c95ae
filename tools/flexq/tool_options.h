// What commands share: the options --json, --threads, --device and --public-key, loading a model,
// --kv-type.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tool_handles.h"

namespace flexq_tool {

struct CommonOptions {
  bool json = false;
  int32_t n_threads = 0;
  std::string device = "auto";
  std::string cpu_kernels = "auto";   // where add_kernels_option was called
  std::string cuda_kernels = "auto";  // likewise
  std::string public_key_file;        // where add_public_key_option was called; empty: none
};

// The work of the command that the command line asked for; returns an exit code.
using Work = std::function<int()>;

// Accepts decimal integers of min to max, but not "", "010" and "0x10", which the parser would take
// for 0, 8 and 16.
CLI::Validator integer_from(int64_t min, int64_t max);

// An option with one number, its default shown in the help.
template <typename Number>
CLI::Option* add_number(CLI::App& app, const std::string& name, Number& value,
                        const std::string& type_name, const std::string& help) {
  return app.add_option(name, value, help)->capture_default_str()->type_name(type_name);
}

// An option with names separated by commas.
CLI::Option* add_name_list(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                           const std::string& help);

// --json, --threads and --device.
void add_common_options(CLI::App& command, CommonOptions& options);

// Its parts, for a command that does not choose a device.
void add_json_option(CLI::App& command, CommonOptions& options);
void add_threads_option(CLI::App& command, CommonOptions& options);

// --kernels and --cuda-kernels, for measurements of one kernel set.
void add_kernels_option(CLI::App& command, CommonOptions& options);

// --public-key, for commands that open bundles.
void add_public_key_option(CLI::App& command, CommonOptions& options);

// --kv-type.
void add_kv_type_option(CLI::App& command, std::string& kv_type);

// Model options from the command line; values that the library does not take are wrong usage. As
// all functions here: failures are reported; returns an exit code.
int make_model_options(const CommonOptions& common, ModelOptions& options);

// Opens a source, which --public-key holds for.
int open_source(const std::string& path, const CommonOptions& options, Source& source);

// Loads a bundle or a checkpoint folder with a progress bar.
int load_model(const std::string& path, const CommonOptions& options, Model& model);

// The same from an open source, which messages call `name`.
int load_model(const Source& source, const std::string& name, const CommonOptions& options,
               Model& model);

// Context options with the value of --kv-type; one that the library does not take is wrong usage.
int make_context_options(const std::string& kv_type, ContextOptions& options);

// Opens a bundle and checks its directory.
int open_bundle(const std::string& path, const CommonOptions& options, Bundle& bundle);

// flexq_bundle_json.
int read_bundle_json(const std::string& path, const Bundle& bundle, std::string& json);

// flexq_bundle_signer; empty for an unsigned bundle.
int read_signer(const std::string& path, const Bundle& bundle, std::string& key_id);

}  // namespace flexq_tool
