// The requests of a load test: when they come, and how long their prompts and answers are. The same
// seed makes the same ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flexq_tool {

// "128", or "64-256": every length from 64 to 256 is as probable as the others.
struct LengthRange {
  int32_t min = 1;
  int32_t max = 1;
};

// False for anything else.
bool parse_length_range(const std::string& text, LengthRange& range);

struct LoadShape {
  int32_t n_requests = 64;
  double rate = 0;  // requests per second, at the times of a Poisson process; 0: closed loop
  LengthRange prompt = {128, 128};
  LengthRange generate = {64, 64};
  int32_t n_shared = 0;  // tokens with which all prompts begin
  int32_t n_vocab = 1000;
  uint64_t seed = 1;
};

struct LoadRequest {
  double arrival_seconds = 0;  // from the beginning
  std::vector<int32_t> prompt;
  int32_t n_generate = 0;
};

std::vector<LoadRequest> plan_load(const LoadShape& shape);

}  // namespace flexq_tool
