// Which device a name opens, and what is said when it opens none.
#include <doctest/doctest.h>

#include "cuda/substitute_backend.h"
#include "device/cuda/cuda_status.h"
#include "device/device_registry.h"
#include "generated/flexq_build_config.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

struct Opened {
  StatusCode code = StatusCode::kOk;
  std::string message;
  std::string id;
  std::string kernels;
};

Opened open(const std::string& id, const std::string& kernels = "auto") {
  DeviceOptions options;
  options.cuda_kernels = kernels;
  const Result<std::shared_ptr<Device>> device = open_device(id, options);
  if (!device.ok()) return {device.status().code(), device.status().message(), "", ""};
  const DeviceDescription description = device.value()->describe();
  return {StatusCode::kOk, "", description.id, description.kernels};
}

bool says(const Opened& opened, const std::string& text) {
  INFO(opened.message);
  CHECK(opened.message.find(text) != std::string::npos);
  return opened.message.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("cuda devices by name") {
  const SubstituteBackend backend;
  SubstituteBackend::cuda().machine.n_devices = 2;
  CHECK(open("auto").id == "cuda:0");
  CHECK(open("cuda").id == "cuda:0");
  CHECK(open("cuda:0").id == "cuda:0");
  CHECK(open("cuda:1").id == "cuda:1");
  CHECK(open("cpu").id == "cpu");
  CHECK(open("cuda:0").kernels == "int8");
  CHECK(open("cuda:0", "btc").kernels == "btc");
  CHECK(open("cuda:0", "int4").code == StatusCode::kUnsupportedValue);
  const Opened third = open("cuda:2");
  CHECK(third.code == StatusCode::kNoDevice);
  says(third, "from 0 to 1, found 2");
  for (const char* id : {"cuda:", "cuda:-1", "cuda:x", "cuda0", "cuda:0x0", "gpu"}) {
    CAPTURE(std::string(id));
    CHECK(open(id).code == StatusCode::kNoDevice);
  }
  CHECK(open("cuda:0,cuda:1").code == StatusCode::kUnsupportedValue);

  REQUIRE(count_devices() == 3);
  CHECK(describe_device(0)->kind == DeviceKind::kCpu);
  const DeviceDescription second = *describe_device(2);
  CHECK(second.kind == DeviceKind::kCuda);
  CHECK(second.id == "cuda:1");
  CHECK(second.name == "Substitute 1");
  CHECK(second.total_memory_bytes == int64_t{1} << 30);
  CHECK(second.free_memory_bytes == int64_t{1} << 30);
  CHECK(describe_device(3).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("no driver, an old one, no device: auto takes the CPU, cuda says why not") {
  struct Case {
    cudaError_t error;
    int driver_version;
    StatusCode code;
    std::string text;
  };
  const Case cases[] = {
      {cudaErrorInsufficientDriver, 0, StatusCode::kNoDevice, "found none"},
      {cudaErrorInsufficientDriver, 12020, StatusCode::kDeviceUnsupported,
       "found one for CUDA 12.2"},
      {cudaErrorNoDevice, 13000, StatusCode::kNoDevice, "expected a device, found none"},
      {cudaErrorSystemDriverMismatch, 13000, StatusCode::kNoDevice, "expected a usable driver"}};
  for (const Case& expected : cases) {
    const SubstituteBackend backend;
    SubstituteBackend::cuda().machine.start_error = expected.error;
    SubstituteBackend::cuda().machine.driver_version = expected.driver_version;
    for (const char* id : {"cuda", "cuda:0"}) {
      const Opened opened = open(id);
      CHECK(opened.code == expected.code);
      says(opened, expected.text);
      says(opened, std::string("device \"") + id + "\"");
    }
    CHECK(open("auto").id == "cpu");
    CHECK(count_devices() == 1);
  }
}

TEST_CASE("a GPU that there is no code for") {
  const SubstituteBackend backend;
  SubstituteBackend::cuda().machine.sm = 70;
  const Opened opened = open("cuda:0");
  CHECK(opened.code == StatusCode::kDeviceUnsupported);
  says(opened, "SM 7.0");
  says(opened, "80 90a");
  CHECK(open("auto").id == "cpu");
  CHECK(count_devices() == 1);

  CHECK(sm_list_covers("80 90a", 80));
  CHECK(sm_list_covers("80 90a", 86));
  CHECK(sm_list_covers("80 90a", 89));
  CHECK(sm_list_covers("80 90a", 90));
  CHECK_FALSE(sm_list_covers("80 90a", 75));
  CHECK_FALSE(sm_list_covers("80 90a", 91));
  CHECK_FALSE(sm_list_covers("80 90a", 100));
  CHECK_FALSE(sm_list_covers("86", 80));
  CHECK_FALSE(sm_list_covers("", 90));
}

TEST_CASE("a backend of another build is refused, both builds are named") {
  const SubstituteBackend backend("0.0.9 GNU 11 0123456789abcdef");
  const Opened opened = open("cuda:0");
  CHECK(opened.code == StatusCode::kDeviceUnsupported);
  says(opened, "0.0.9 GNU 11 0123456789abcdef");
  says(opened, FLEXQ_BUILD_ID);
  CHECK(open("auto").id == "cpu");
}

TEST_CASE("without the backend's library") {
  // This program is not beside it.
  const Opened opened = open("cuda:0");
  CHECK(opened.code == StatusCode::kNoDevice);
  says(opened, "libflexq_cuda.so");
  CHECK(open("auto").id == "cpu");
}

TEST_CASE("out of memory says what was needed and what is free") {
  const SubstituteBackend backend;
  SubstituteBackend::cuda().machine.memory_bytes = 100000;
  const SourceHandle source = source_of(tiny_model_bytes("fp16"));
  const ModelOptionsHandle options = model_options(1);
  REQUIRE_OK(flexq_model_options_set_device(options.get(), "cuda:0"));
  ModelHandle model;
  CHECK(create(model, flexq_model_load, source.get(), options.get()) == FLEXQ_ERROR_OUT_OF_MEMORY);
  const std::string message = flexq_last_error();
  CAPTURE(message);
  CHECK(message.find("weights needs ") != std::string::npos);
  CHECK(message.find("100000 are free") != std::string::npos);
}

}  // namespace flexq::test
