// The commands. Each function adds one to `parent` with its options and help; when the command line
// names it, parsing puts its work into `selected`.
#pragma once

#include "tool_options.h"

namespace flexq_tool {

void add_quantize_command(CLI::App& parent, Work& selected);
void add_inspect_command(CLI::App& parent, Work& selected);
void add_verify_command(CLI::App& parent, Work& selected);
void add_sign_command(CLI::App& parent, Work& selected);
void add_run_command(CLI::App& parent, Work& selected);
void add_chat_command(CLI::App& parent, Work& selected);
void add_serve_command(CLI::App& parent, Work& selected);
void add_tokenize_command(CLI::App& parent, Work& selected);
void add_perplexity_command(CLI::App& parent, Work& selected);     // parent: eval
void add_choice_command(CLI::App& parent, Work& selected);         // parent: eval
void add_compare_command(CLI::App& parent, Work& selected);        // parent: eval
void add_bench_e2e_command(CLI::App& parent, Work& selected);      // parent: bench
void add_bench_serve_command(CLI::App& parent, Work& selected);    // parent: bench
void add_bench_kernels_command(CLI::App& parent, Work& selected);  // parent: bench
void add_bench_load_command(CLI::App& parent, Work& selected);     // parent: bench

}  // namespace flexq_tool
