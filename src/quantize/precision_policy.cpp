#include "quantize/precision_policy.h"

#include <string>

namespace flexq {
namespace {

//                                             q   k   v   o   gate up down
constexpr PrecisionPolicy kPolicies[] = {
    {"flexq", 6, {6, 6, 6, 6, 6, 6, 8}},        {"w6a6", 6, {6, 6, 6, 6, 6, 6, 6}},
    {"w6a8", 6, {8, 8, 8, 8, 8, 8, 8}},         {"w6a16", 6, {16, 16, 16, 16, 16, 16, 16}},
    {"w8a8", 8, {8, 8, 8, 8, 8, 8, 8}},         {"w8a16", 8, {16, 16, 16, 16, 16, 16, 16}},
    {"fp16", 16, {16, 16, 16, 16, 16, 16, 16}},
};

}  // namespace

std::span<const PrecisionPolicy> precision_policies() {
  return kPolicies;
}

Result<PrecisionPolicy> find_precision_policy(std::string_view name) {
  std::string known;
  for (const PrecisionPolicy& policy : kPolicies) {
    if (policy.name == name) return policy;
    if (!known.empty()) known += ", ";
    known += policy.name;
  }
  return Status::error(
      StatusCode::kUnsupportedValue,
      "unknown policy '%.*s', expected one of %s, or auto for a checkpoint that is "
      "quantized",
      static_cast<int>(name.size()), name.data(), known.c_str());
}

}  // namespace flexq
