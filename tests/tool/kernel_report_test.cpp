// The reports of flexq bench kernels, from times that are made up.
#include "kernel_report.h"

#include <doctest/doctest.h>

#include <cstring>

using namespace flexq_tool;

namespace {

flexq_kernel_machine some_machine() {
  flexq_kernel_machine machine = {};
  machine.read_bandwidth = 3e12;
  std::strcpy(machine.device, "cuda:0");
  std::strcpy(machine.name, "Some GPU");
  std::strcpy(machine.kernels, "int8");
  std::strcpy(machine.baseline_library, "cuBLASLt 13.1.0");
  return machine;
}

flexq_kernel_time some_time(int32_t n_tokens, double us, const char* configuration = "",
                            bool chosen = true) {
  flexq_kernel_time time = {};
  time.rows = 4096;
  time.cols = 11008;
  time.activation_bits = 8;
  time.n_tokens = n_tokens;
  time.weight_bytes = 33'816'576;
  time.microseconds = us;
  time.floor_microseconds = 10;
  time.read_microseconds = 12;
  time.chosen = chosen ? 1 : 0;
  std::strcpy(time.layer, "down_proj");
  std::strcpy(time.format, "int6");
  std::strcpy(time.kernels, "int8");
  std::strcpy(time.configuration, configuration);
  return time;
}

void has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("baselines have columns where they were measured, with how much faster FlexQ is") {
  KernelTimes times{"llama-2-7b", "flexq"};
  times.rows = {some_time(1, 20), some_time(16, 40)};
  times.rows[0].baseline_microseconds[1] = 30;  // int8
  const std::string text = kernel_tables(some_machine(), {times}, false);
  has(text, "int8 us");
  CHECK(text.find("fp8 us") == std::string::npos);
  has(text, "30.0 (1.50x)");
  has(text, "2.00");  // of the floor
  has(text, "Some GPU (cuda:0), kernels int8, memory read at 3.00 TB/s");
  has(text, "baselines: cuBLASLt 13.1.0");
  has(kernel_tables(some_machine(), {times}, true),
      "| down_proj | 4096 x 11008 | int6 x int8 | 16 | 40.0 | 10.0 | 4.00 | 12.0 | - |");

  const nlohmann::ordered_json json = kernel_json(some_machine(), {times});
  CHECK(json["baselines"] == "cuBLASLt 13.1.0");
  CHECK(json["no_baselines"].is_null());
  CHECK(json["results"][0]["baselines"]["int8"]["microseconds"] == 30.0);
  CHECK(json["results"][0]["baselines"]["int8"]["speedup"] == 1.5);
  CHECK(json["results"][1]["baselines"].empty());
}

TEST_CASE("tuning shows what the choice loses, and the table that the fastest make") {
  KernelTimes times{"4096x11008", "w6a8"};
  times.rows = {some_time(1, 20, "decode, 4 stages, resident"),
                some_time(1, 16, "decode, 3 stages, resident", false),
                some_time(8, 21, "decode, 4 stages, resident", false),
                some_time(8, 20, "decode, 3 stages, resident"),
                // Within the clock's noise: the choice stays.
                some_time(16, 30.1, "decode, 3 stages, resident"),
                some_time(16, 30.0, "prefill 64x32", false), some_time(64, 50, "prefill 64x32")};
  const std::string text = tuning_tables(some_machine(), {times}, false);
  has(text, "25.0%");
  has(text, "0.3%");
  has(text, "1-16");
  has(text, "4096 x 11008");

  const nlohmann::ordered_json json = tuning_json(some_machine(), {times});
  const auto& tuning = json["tuning"];
  REQUIRE(tuning.size() == 4);
  CHECK(tuning[0]["chosen"] == "decode, 4 stages, resident");
  CHECK(tuning[0]["fastest"] == "decode, 3 stages, resident");
  CHECK(tuning[0]["loss"] == 0.25);
  CHECK(tuning[0]["microseconds"]["decode, 3 stages, resident"] == 16.0);
  CHECK(tuning[1]["loss"] == 0.0);
  const auto& table = json["table"];
  REQUIRE(table.size() == 2);
  CHECK(table[0]["first_tokens"] == 1);
  CHECK(table[0]["last_tokens"] == 16);
  CHECK(table[0]["configuration"] == "decode, 3 stages, resident");
  CHECK(table[1]["first_tokens"] == 64);
  CHECK(table[1]["configuration"] == "prefill 64x32");
}

TEST_CASE("tuning a kernel without a choice says so") {
  KernelTimes times{"4096x11008", "fp16"};
  times.rows = {some_time(1, 20)};
  has(tuning_tables(some_machine(), {times}, false), "none of these kernels leaves a choice");
  CHECK(tuning_json(some_machine(), {times})["tuning"].empty());
}
