// What belongs to the host and is respected: its allocator, its threads and signals, its
// floating-point mode.
#include <doctest/doctest.h>
#include <sys/types.h>

#include <cfenv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/memory.h"
#include "reliability/tiny_model.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

// A host's heap: knows what it gave, and can run out.
struct HostHeap {
  std::mutex mutex;
  std::map<void*, int64_t> live;
  int64_t n_allocations = 0;
  int64_t allowed = INT64_MAX;  // allocations until NULL
  int64_t offset = 0;           // added to what is given: breaks the alignment
  bool misused = false;

  static void* allocate(int64_t n_bytes, int64_t alignment, void* user_data) {
    auto* heap = static_cast<HostHeap*>(user_data);
    const std::lock_guard lock(heap->mutex);
    if (n_bytes < 1 || alignment != kHostAlignment) heap->misused = true;
    if (heap->n_allocations >= heap->allowed) return nullptr;
    ++heap->n_allocations;
    void* memory = nullptr;
    if (posix_memalign(&memory, static_cast<size_t>(alignment),
                       static_cast<size_t>(n_bytes + heap->offset)) != 0)
      return nullptr;
    memory = static_cast<uint8_t*>(memory) + heap->offset;
    heap->live[memory] = n_bytes;
    return memory;
  }
  static void release(void* memory, int64_t n_bytes, void* user_data) {
    auto* heap = static_cast<HostHeap*>(user_data);
    const std::lock_guard lock(heap->mutex);
    const auto found = heap->live.find(memory);
    if (found == heap->live.end() || found->second != n_bytes) {
      heap->misused = true;
      return;
    }
    heap->live.erase(found);
    std::free(static_cast<uint8_t*>(memory) - heap->offset);
  }
  int64_t live_bytes() {
    const std::lock_guard lock(mutex);
    int64_t total = 0;
    for (const auto& [memory, n_bytes] : live)
      total += n_bytes;
    return total;
  }
};

flexq_status use_heap(HostHeap& heap) {
  return flexq_set_allocator(HostHeap::allocate, HostHeap::release, &heap);
}

flexq_status use_default_heap() {
  return flexq_set_allocator(nullptr, nullptr, nullptr);
}

std::string generate(const flexq_model* model) {
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model, nullptr));
  GeneratorHandle generator;
  REQUIRE_OK(create(generator, flexq_generator_create, context.get(), nullptr));
  REQUIRE_OK(flexq_generator_start(generator.get(), "a b", 3, FLEXQ_ENCODE_DEFAULT));
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  for (int i = 0; i < 20 && event.finish_reason == FLEXQ_FINISH_NONE; ++i)
    REQUIRE_OK(flexq_generator_next(generator.get(), &event));
  return output_bytes(context.get());
}

// Every call that uses buffers; `path` is where to quantize to.
flexq_status use_everything(const std::string& checkpoint, const std::string& path) {
  flexq_status status = flexq_quantize(checkpoint.c_str(), path.c_str(), nullptr);
  if (status != FLEXQ_OK) return status;
  SourceHandle source;
  status = create(source, flexq_source_open, path.c_str());
  if (status != FLEXQ_OK) return status;
  BundleHandle bundle;
  status = create(bundle, flexq_bundle_open, source.get());
  if (status == FLEXQ_OK) status = flexq_bundle_verify(bundle.get(), 2, nullptr, nullptr);
  if (status != FLEXQ_OK) return status;
  const ModelOptionsHandle options = model_options(2);
  ModelHandle model;
  status = create(model, flexq_model_load, source.get(), options.get());
  if (status != FLEXQ_OK) return status;
  ContextHandle context;
  return create(context, flexq_context_create, model.get(), nullptr);
}

std::string first_line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Thread ids of this process whose name is the library's.
std::vector<std::string> worker_ids() {
  std::vector<std::string> ids;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    if (first_line_of(entry.path().string() + "/comm") == "flexq-worker")
      ids.push_back(entry.path().filename().string());
  return ids;
}

int64_t n_threads_of_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                       std::filesystem::directory_iterator());
}

uint64_t blocked_signals(const std::string& thread_id) {
  std::ifstream file("/proc/self/task/" + thread_id + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("SigBlk:")) return std::stoull(line.substr(7), nullptr, 16);
  FAIL("no SigBlk of thread " << thread_id);
  return 0;
}

// The floating-point mode of the calling thread: rounding, and on x86 the whole control register
// without its exception flags.
struct FloatingPointMode {
  int rounding = fegetround();
#if defined(__x86_64__)
  unsigned int control = _mm_getcsr() & ~0x3fu;
#endif
  bool operator==(const FloatingPointMode&) const = default;
};

// Rounds upwards, and flushes subnormals to zero where that is known how.
class UnusualFloatingPoint {
 public:
  UnusualFloatingPoint() {
    fegetenv(&before_);
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);  // flush to zero, subnormals are zero
#endif
  }
  ~UnusualFloatingPoint() {
    fesetenv(&before_);
  }

 private:
  fenv_t before_;
};

// Everything that the library computes with floating-point numbers, as bytes.
std::string compute_everything(const std::string& folder) {
  const std::string checkpoint = write_tiny_checkpoint(folder);
  const std::string path = folder + "/model.flexq";
  REQUIRE_OK(flexq_quantize(checkpoint.c_str(), path.c_str(), nullptr));
  std::string results = read_file_bytes(path);
  for (const std::string& from : {path, checkpoint}) {
    SourceHandle source;
    REQUIRE_OK(create(source, flexq_source_open, from.c_str()));
    const ModelOptionsHandle options = model_options(2);
    ModelHandle model;
    REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
    flexq_model_info info = {};
    info.struct_size = sizeof info;
    REQUIRE_OK(flexq_model_get_info(model.get(), &info));
    results.append(reinterpret_cast<const char*>(&info), sizeof info);

    ContextHandle context;
    REQUIRE_OK(create(context, flexq_context_create, model.get(), nullptr));
    SamplingHandle sampling;
    REQUIRE_OK(create(sampling, flexq_sampling_create));
    REQUIRE_OK(flexq_sampling_set_temperature(sampling.get(), 0.7f));
    REQUIRE_OK(flexq_sampling_set_top_p(sampling.get(), 0.95f));
    REQUIRE_OK(flexq_sampling_set_penalties(sampling.get(), 1.1f, 0.1f, 0.1f, 32));
    GeneratorOptionsHandle generator_options;
    REQUIRE_OK(create(generator_options, flexq_generator_options_create));
    REQUIRE_OK(flexq_generator_options_set_sampling(generator_options.get(), sampling.get()));
    REQUIRE_OK(flexq_generator_options_set_log_probs(generator_options.get(), 4));
    REQUIRE_OK(flexq_generator_options_set_ignore_end(generator_options.get(), 1));
    GeneratorHandle generator;
    REQUIRE_OK(create(generator, flexq_generator_create, context.get(), generator_options.get()));
    REQUIRE_OK(flexq_generator_start(generator.get(), "a b", 3, FLEXQ_ENCODE_DEFAULT));
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    for (int i = 0; i < 20; ++i) {
      REQUIRE_OK(flexq_generator_next(generator.get(), &event));
      results += std::to_string(event.token) + " ";
      results.append(reinterpret_cast<const char*>(&event.log_prob), sizeof(float));
      results.append(reinterpret_cast<const char*>(event.alternative_log_probs),
                     static_cast<size_t>(event.n_alternatives) * sizeof(float));
    }
    results += output_bytes(context.get());

    REQUIRE_OK(flexq_context_rewind(context.get(), 0, 0));
    const std::vector<int32_t> tokens = tiny_tokens(60, 4);
    std::vector<float> log_probs(59);
    REQUIRE_OK(
        flexq_context_score(context.get(), tokens.data(), 60, log_probs.data(), nullptr, nullptr));
    results.append(reinterpret_cast<const char*>(log_probs.data()), 59 * sizeof(float));
    const std::string text(100, 'a');
    flexq_perplexity_result perplexity = {};
    perplexity.struct_size = sizeof perplexity;
    REQUIRE_OK(flexq_evaluate_perplexity(model.get(), nullptr, text.data(), 100, 16, 0, nullptr,
                                         nullptr, &perplexity));
    results.append(reinterpret_cast<const char*>(&perplexity), sizeof perplexity);
  }
  BundleHandle bundle;
  SourceHandle source;
  REQUIRE_OK(create(source, flexq_source_open, path.c_str()));
  REQUIRE_OK(create(bundle, flexq_bundle_open, source.get()));
  std::string json(20000, '\0');
  int64_t n_bytes = 0;
  REQUIRE_OK(flexq_bundle_json(bundle.get(), json.data(), 20000, &n_bytes));
  return results + json.substr(0, static_cast<size_t>(n_bytes));
}

}  // namespace

// First: it needs a process in which the library has not computed yet.
TEST_CASE("host settings: no thread before the first use, the number asked for, signals blocked") {
  const std::string& bytes = tiny_model_bytes();  // its pool is gone again
  const int64_t before = n_threads_of_process();
  {
    const SourceHandle source = source_of(bytes);
    const ModelOptionsHandle options = model_options(5);
    flexq_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_OK(flexq_model_plan(source.get(), options.get(), nullptr, 0, &plan));
    flexq_device_info device = {};
    device.struct_size = sizeof device;
    REQUIRE_OK(flexq_device_get_info(0, &device));
    TokenizerHandle tokenizer;
    REQUIRE_OK(create(tokenizer, flexq_tokenizer_open, source.get()));
    CHECK(std::string(flexq_build_info()).size() > 0);
    CHECK(n_threads_of_process() == before);

    ModelHandle model;
    REQUIRE_OK(create(model, flexq_model_load, source.get(), options.get()));
    generate(model.get());
    CHECK(n_threads_of_process() == before + 4);
    const std::vector<std::string> workers = worker_ids();
    CHECK(workers.size() == 4);
    for (const std::string& id : workers) {
      // All of 1 to 64 but what cannot be blocked (SIGKILL, SIGSTOP) and the two that glibc keeps
      // for itself (32, 33).
      constexpr uint64_t kFree = uint64_t{1} << 8 | uint64_t{1} << 18 | uint64_t{3} << 31;
      CHECK((blocked_signals(id) | kFree) == ~uint64_t{0});
    }
  }
  CHECK(n_threads_of_process() == before);

  const ModelHandle alone = load_tiny_model("flexq", 1);
  generate(alone.get());
  CHECK(n_threads_of_process() == before);
}

TEST_CASE("host settings: all large buffers come from the host's allocator and go back to it") {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_tiny_checkpoint(directory.path());
  const std::string path = directory.file("model.flexq");
  REQUIRE_OK(use_everything(checkpoint, path));
  const std::string expected = generate(load_tiny_model().get());
  REQUIRE(host_memory_counters().live_buffers == 0);

  HostHeap heap;
  REQUIRE_OK(use_heap(heap));
  REQUIRE_OK(use_everything(checkpoint, path));
  CHECK(heap.n_allocations > 8);
  CHECK(heap.live.empty());
  {
    const ModelHandle model = load_tiny_model();
    ContextHandle context;
    REQUIRE_OK(create(context, flexq_context_create, model.get(), nullptr));
    // What the plan says is what the host gave.
    flexq_plan plan = {};
    plan.struct_size = sizeof plan;
    REQUIRE_OK(flexq_context_get_plan(context.get(), &plan));
    CHECK(heap.live_bytes() == plan.total_bytes);
    CHECK(heap.live_bytes() == host_memory_counters().live_bytes);
    CHECK(generate(model.get()) == expected);

    // Not while buffers are in use.
    HostHeap other;
    CHECK(use_heap(other) == FLEXQ_ERROR_INVALID_STATE);
    CHECK(std::string(flexq_last_error()).find("3 buffers") != std::string::npos);
    CHECK(use_default_heap() == FLEXQ_ERROR_INVALID_STATE);
    CHECK(other.n_allocations == 0);
  }
  CHECK(heap.live.empty());
  CHECK_FALSE(heap.misused);
  REQUIRE_OK(use_default_heap());
  const int64_t n_allocations = heap.n_allocations;
  CHECK(generate(load_tiny_model().get()) == expected);
  CHECK(heap.n_allocations == n_allocations);
  CHECK(flexq_set_allocator(HostHeap::allocate, nullptr, &heap) == FLEXQ_ERROR_INVALID_ARGUMENT);
  CHECK(flexq_set_allocator(nullptr, HostHeap::release, &heap) == FLEXQ_ERROR_INVALID_ARGUMENT);
}

TEST_CASE("host settings: NULL from the host's allocator is OUT_OF_MEMORY") {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_tiny_checkpoint(directory.path());
  const std::string path = directory.file("model.flexq");
  flexq_status status = FLEXQ_ERROR_OUT_OF_MEMORY;
  int64_t allowed = 0;
  for (; status != FLEXQ_OK && allowed < 1000; ++allowed) {
    CAPTURE(allowed);
    HostHeap heap;
    heap.allowed = allowed;
    REQUIRE_OK(use_heap(heap));
    status = use_everything(checkpoint, path);
    REQUIRE_OK(use_default_heap());
    REQUIRE((status == FLEXQ_OK || status == FLEXQ_ERROR_OUT_OF_MEMORY));
    REQUIRE(heap.live.empty());
    REQUIRE_FALSE(heap.misused);
  }
  CHECK(allowed > 8);
}

TEST_CASE("host settings: memory that is not aligned is refused and given back") {
  HostHeap heap;
  heap.offset = 16;
  const SourceHandle source = source_of(tiny_model_bytes());
  REQUIRE_OK(use_heap(heap));
  ModelHandle model;
  CHECK(create(model, flexq_model_load, source.get(), nullptr) == FLEXQ_ERROR_INVALID_STATE);
  CHECK(std::string(flexq_last_error()).find("aligned to 64 bytes") != std::string::npos);
  CHECK(heap.live.empty());
  REQUIRE_OK(use_default_heap());
}

TEST_CASE("host settings: another floating-point mode changes no result and is given back") {
  const TemporaryDirectory usual_folder;
  const TemporaryDirectory unusual_folder;
  const std::string expected = compute_everything(usual_folder.path());
  std::string found;
  bool kept = false;
  {
    const UnusualFloatingPoint unusual;
    const FloatingPointMode before;
    found = compute_everything(unusual_folder.path());
    kept = before == FloatingPointMode();
  }
  CHECK(kept);
  CHECK(found.size() == expected.size());
  const auto at = std::mismatch(found.begin(), found.end(), expected.begin()).first;
  CHECK_MESSAGE(at == found.end(), "first difference at byte " << at - found.begin());
}

}  // namespace flexq::test
