// What the reliability tests share: a model of one layer in memory, and whole results of
// the C interface as C++ values.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "flexq.h"
#include "support/c_handles.h"
#include "support/synthetic_checkpoint.h"

namespace flexq::test {

#define REQUIRE_OK(call)                                               \
  do {                                                                 \
    const flexq_status required_status_ = (call);                      \
    INFO(#call, ": ", std::string(flexq_last_error()));                \
    REQUIRE(std::string(flexq_status_name(required_status_)) == "OK"); \
  } while (false)

// One layer, context 256, small_model_config() otherwise.
ModelConfig tiny_model_config();
// Lets later TemporaryDirectory objects lie in memory where the machine offers that: thousands of
// writes with their fsync would otherwise wait for a disk.
void keep_temporaries_in_memory();

// Makes the folder `parent`/tiny, the same checkpoint every time, with every optional file, and
// returns its path.
std::string write_tiny_checkpoint(const std::string& parent);
// The bundle of write_tiny_checkpoint() under a policy.
const std::string& tiny_model_bytes(const std::string& policy = "flexq");

// The same, policy "flexq", signed with kTestSecretKey.
const std::string& signed_tiny_model_bytes();

std::string read_file_bytes(const std::string& path);

SourceHandle source_of(const std::string& bytes);
ModelOptionsHandle model_options(int32_t n_threads, const char* kernels = "auto");
ModelHandle load_tiny_model(const std::string& policy = "flexq", int32_t n_threads = 2,
                            const char* kernels = "auto");

// Kernel sets that this build has and this processor runs.
std::vector<std::string> usable_kernels();
// Names of all policies that quantize takes.
std::vector<std::string> all_policies();

// `n` token ids of the tiny model's whole vocabulary, a function of the seed only.
std::vector<int32_t> tiny_tokens(int64_t n, uint64_t seed);

// The bytes of all output rows of the last decode.
std::string output_bytes(const flexq_context* context);

}  // namespace flexq::test
