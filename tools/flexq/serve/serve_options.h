// The command line of flexq serve.
#pragma once

#include <cstdint>
#include <string>

#include "tool_options.h"

namespace flexq_tool {

struct ServeOptions {
  CommonOptions common;
  std::string model;  // path
  std::string host = "127.0.0.1";
  int port = 8080;
  std::string api_key;
  std::string api_key_file;
  std::string model_name;     // empty: of the path
  std::string chat_template;  // empty: the model's own
  std::string access_log;     // path; "-": standard output; empty: none
  int64_t max_request_bytes = 16 << 20;
  int32_t max_concurrent = 512;
  int32_t queue = 256;
  int32_t context_tokens = 0;
  int32_t n_sequences = 0;   // 0: by the device
  int32_t cache_tokens = 0;  // 0: by the memory that is free
  int32_t step_tokens = 0;
  std::string kv_type = "auto";
  double timeout_seconds = 600;
  double drain_seconds = 30;
};

}  // namespace flexq_tool
