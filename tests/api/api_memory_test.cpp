// Memory that the process holds: flat over many openings, and never above the plan.
#include <unistd.h>

#include <cstdio>

#include "api/api_fixture.h"
#include "support/test_data.h"

using namespace flexq::test;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

int64_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  long long total = 0;
  long long resident = 0;
  const int n_read = std::fscanf(file, "%lld %lld", &total, &resident);
  std::fclose(file);
  REQUIRE(n_read == 2);
  return resident * sysconf(_SC_PAGESIZE);
}

void open_use_close() {
  const Model model = load_model(stories_bundle());
  const Context context = make_context(model);
  const Generator generator = make_generator(
      context, [](flexq_generator_options* o) { flexq_generator_options_set_max_tokens(o, 4); });
  REQUIRE_OK(start(generator, "Once upon a time"));
  REQUIRE_OK(flexq_generator_run(generator, nullptr, nullptr));
  Bundle bundle;
  REQUIRE_OK(flexq_bundle_open(open_source(stories_bundle()), bundle.out()));
  REQUIRE_OK(flexq_bundle_verify(bundle, 2, nullptr, nullptr));
}

void open_and_cancel() {
  ModelOptions options;
  REQUIRE_OK(flexq_model_options_create(options.out()));
  REQUIRE_OK(flexq_model_options_set_progress(
      options, [](int64_t, int64_t, void*) { return 1; }, nullptr));
  Model model;
  CHECK_ERROR(flexq_model_load(open_source(stories_bundle()), options, model.out()), "CANCELLED",
              "progress callback");
  CHECK(model.get() == nullptr);
}

struct Peak {
  int64_t planned_bytes;
  int64_t peak_bytes;
};

Peak peak_of_child(const std::string& path) {
  std::FILE* pipe = popen(("'" FLEXQ_API_MEMORY_PROBE "' '" + path + "'").c_str(), "r");
  REQUIRE(pipe != nullptr);
  long long planned = 0;
  long long peak = 0;
  const int n_read = std::fscanf(pipe, "%lld %lld", &planned, &peak);
  REQUIRE(pclose(pipe) == 0);
  REQUIRE(n_read == 2);
  return {planned, peak};
}

void check_peak(const std::string& path) {
  const Peak peak = peak_of_child(path);
  MESSAGE(path << ": planned " << peak.planned_bytes << " bytes, peak " << peak.peak_bytes);
  CHECK(peak.peak_bytes > peak.planned_bytes);  // so that the plan was really used
  CHECK(peak.peak_bytes <= peak.planned_bytes + 64 * kMiB);
}

}  // namespace

TEST_CASE("resident memory is flat over openings and closings, cancelled ones included") {
  const int n_cycles = kSanitized ? 5 : 50;
  for (int i = 0; i < 5; ++i) {
    open_use_close();
    open_and_cancel();
  }
  const int64_t before = resident_bytes();
  for (int i = 0; i < n_cycles; ++i) {
    open_use_close();
    open_and_cancel();
  }
  const int64_t growth = resident_bytes() - before;
  if (!kSanitized) CHECK(growth < 4 * kMiB);
}

TEST_CASE("peak memory stays within the plan and 64 MiB") {
  if (kSanitized) return;  // shadow memory would be counted
  check_peak(wiki_tiny_bundle());
  const std::string checkpoint = reference_path("models/wiki-llama2-28m");
  if (checkpoint.empty()) return;
  const TemporaryDirectory directory;
  const std::string bundle = directory.file("wiki-llama2-28m.flexq");
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), bundle.c_str(), nullptr));
  check_peak(bundle);
}
