// T21: memory after many times opening a model, answering, and closing everything is what it was.
//   open_close_cycles MODEL [--device ID] [--cycles N]
// Prints what the process and the device hold after every tenth of the cycles, and fails where that
// grows in the second half: before, caches of the allocator and of the CUDA driver fill.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "support/c_handles.h"

namespace flexq::test {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// What the allocator keeps goes up and down by half a MiB; more cycles find smaller leaks.
constexpr int64_t kAllowedResidentGrowth = 1 * kMiB;
// The granularity of the driver.
constexpr int64_t kAllowedDeviceGrowth = 4 * kMiB;
constexpr int kTokens = 8;

struct Memory {
  int64_t resident_bytes = 0;
  int64_t device_free_bytes = 0;
};

int fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, flexq_last_error());
  return 1;
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t n_pages = 0;
  statm >> n_pages >> n_pages;
  return n_pages * sysconf(_SC_PAGESIZE);
}

// Of the first device whose name begins with `id`: "cuda" is any of them.
int64_t device_free_bytes(const std::string& id) {
  for (int32_t i = 0; i < flexq_device_count(); ++i) {
    flexq_device_info info = {};
    info.struct_size = sizeof info;
    if (flexq_device_get_info(i, &info) == FLEXQ_OK && std::string(info.id).starts_with(id))
      return info.free_memory_bytes;
  }
  return 0;
}

int cycle(const char* path, const std::string& device) {
  SourceHandle source;
  if (create(source, flexq_source_open, path) != FLEXQ_OK) return fail("source");
  ModelOptionsHandle options;
  if (create(options, flexq_model_options_create) != FLEXQ_OK ||
      flexq_model_options_set_device(options.get(), device.c_str()) != FLEXQ_OK ||
      flexq_model_options_set_threads(options.get(), 2) != FLEXQ_OK)
    return fail("options");
  ModelHandle model;
  if (create(model, flexq_model_load, source.get(), options.get()) != FLEXQ_OK)
    return fail("model");
  ContextHandle context;
  if (create(context, flexq_context_create, model.get(), nullptr) != FLEXQ_OK)
    return fail("context");
  GeneratorHandle generator;
  if (create(generator, flexq_generator_create, context.get(), nullptr) != FLEXQ_OK)
    return fail("generator");
  const std::string prompt = "Once upon a time";
  if (flexq_generator_start(generator.get(), prompt.data(), std::ssize(prompt),
                            FLEXQ_ENCODE_ADD_BOS) != FLEXQ_OK)
    return fail("prompt");
  for (int i = 0; i < kTokens; ++i) {
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    if (flexq_generator_next(generator.get(), &event) != FLEXQ_OK) return fail("token");
  }
  return 0;
}

int run(const char* path, const std::string& device, int n_cycles) {
  const bool has_device_memory = device != "cpu";
  const int tenth = std::max(1, n_cycles / 10);
  Memory first;
  Memory last;
  for (int i = 1; i <= n_cycles; ++i) {
    if (const int code = cycle(path, device); code != 0) return code;
    if (i % tenth != 0) continue;
    last = {resident_bytes(), has_device_memory ? device_free_bytes(device) : 0};
    if (i <= n_cycles / 2) first = last;
    std::printf("cycle %d: resident %.2f MiB", i,
                static_cast<double>(last.resident_bytes) / static_cast<double>(kMiB));
    if (has_device_memory)
      std::printf(", free on %s %.2f MiB", device.c_str(),
                  static_cast<double>(last.device_free_bytes) / static_cast<double>(kMiB));
    std::printf("\n");
  }
  const int64_t resident = last.resident_bytes - first.resident_bytes;
  const int64_t device_memory = first.device_free_bytes - last.device_free_bytes;
  std::printf("growth in the second half of %d cycles: resident %lld bytes, device %lld bytes\n",
              n_cycles, static_cast<long long>(resident), static_cast<long long>(device_memory));
  if (resident <= kAllowedResidentGrowth && device_memory <= kAllowedDeviceGrowth) return 0;
  std::fprintf(stderr, "memory is not flat: at most %lld and %lld bytes were expected\n",
               static_cast<long long>(kAllowedResidentGrowth),
               static_cast<long long>(kAllowedDeviceGrowth));
  return 1;
}

}  // namespace
}  // namespace flexq::test

int main(int argc, char** argv) {
  std::string device = "cpu";
  int n_cycles = 1000;
  for (int i = 2; i + 1 < argc; i += 2) {
    if (std::string(argv[i]) == "--device") device = argv[i + 1];
    if (std::string(argv[i]) == "--cycles") n_cycles = std::atoi(argv[i + 1]);
  }
  if (argc < 2 || argc % 2 != 0 || n_cycles < 1) {
    std::fprintf(stderr, "open_close_cycles MODEL [--device ID] [--cycles N]\n");
    return 2;
  }
  if (flexq::test::device_free_bytes(device) == 0) {
    std::printf("SKIPPED: no device %s\n", device.c_str());
    return 77;
  }
  return flexq::test::run(argv[1], device, n_cycles);
}
