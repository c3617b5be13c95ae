// What the tool says: results on standard output, one-line errors on standard error, exit codes.
#pragma once

#include <flexq.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace flexq_tool {

// A command ended by SIGINT or SIGTERM exits with 128 plus the signal's number: 130, 143.
enum ExitCode { kExitOk = 0, kExitFailed = 1, kExitUsage = 2, kExitSignalBase = 128 };

// Call once, first. Occupies closed standard descriptors, so that no file opened later takes their
// numbers, and turns SIGPIPE and SIGXFSZ into write errors.
void prepare_standard_streams();

// Writes everything, unbuffered. False when that failed; errno says why.
bool write_all(int descriptor, std::string_view text);

// Writes a result to standard output; a failure is reported. Returns an exit code.
int print(std::string_view text);

// Prints one JSON object and a newline. Bytes that are not UTF-8 become U+FFFD.
int print_json(const nlohmann::ordered_json& object);

// "flexq: <thing>: <message>" on standard error, as one line whatever the parts contain; returns
// kExitFailed.
int report_failure(std::string_view thing, std::string_view message);

// The same for a failed call of the library, with flexq_last_error(). Where a signal cancelled the
// call: "flexq: interrupted" and the signal's exit code.
int report_failure(std::string_view thing, flexq_status status);

// For a value of an option that the library does not take; returns kExitUsage.
int report_usage(std::string_view option);

// "flexq: interrupted"; returns 128 plus the signal that came.
int report_interrupt();

}  // namespace flexq_tool
