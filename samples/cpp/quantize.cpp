// Turns a Hugging Face checkpoint into a bundle and checks it:  quantize CHECKPOINT_DIR OUT.flexq
#include <cstdio>
#include <exception>

#include "handles.h"

namespace {

// C calls this: no exception may leave it. Non-zero would cancel, and leave what was at OUT.flexq
// before.
int32_t print_progress(int64_t done, int64_t total, void* label) noexcept {
  std::fprintf(stderr, "\r%s: %3d%%", static_cast<const char*>(label),
               total > 0 ? static_cast<int>(100 * done / total) : 100);
  return 0;
}

void quantize(const char* checkpoint, const char* output) {
  static char label[] = "quantizing";
  const auto options = sample::create<sample::QuantizeOptions>(flexq_quantize_options_create);
  sample::check(flexq_quantize_options_set_policy(options.get(), "flexq"));
  sample::check(flexq_quantize_options_set_progress(options.get(), print_progress, label));
  sample::check(flexq_quantize(checkpoint, output, options.get()));
  std::fputs("\n", stderr);
}

// Reads every byte of a bundle and prints what it says about itself.
void verify(const char* path) {
  static char label[] = "verifying";
  const auto source = sample::create<sample::Source>(flexq_source_open, path);
  const auto bundle = sample::create<sample::Bundle>(flexq_bundle_open, source.get());
  sample::check(flexq_bundle_verify(bundle.get(), 0, print_progress, label));
  std::fputs("\n", stderr);
  const auto json = sample::read_text([&](char* buffer, int64_t capacity, int64_t* n) {
    return flexq_bundle_json(bundle.get(), buffer, capacity, n);
  });
  std::printf("%s\n", json.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s CHECKPOINT_DIR OUT.flexq\n", argv[0]);
    return 2;
  }
  try {
    quantize(argv[1], argv[2]);
    verify(argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
