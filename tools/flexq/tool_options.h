// What every command shares: the options --json, --threads and --device, and loading a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "tool_handles.h"

namespace flexq_tool {

struct CommonOptions {
  bool json = false;
  int32_t n_threads = 0;
  std::string device = "auto";
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

void add_common_options(CLI::App& command, CommonOptions& options);

// Opens a source. As all functions here: failures are reported; returns an exit code.
int open_source(const std::string& path, Source& source);

// Loads a bundle or a checkpoint folder with a progress bar.
int load_model(const std::string& path, const CommonOptions& options, Model& model);

// Opens a bundle and checks its directory.
int open_bundle(const std::string& path, Bundle& bundle);

// flexq_bundle_json.
int read_bundle_json(const std::string& path, const Bundle& bundle, std::string& json);

}  // namespace flexq_tool
