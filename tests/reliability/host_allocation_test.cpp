// T11: the k-th host allocation fails, once or from then on. Every call of the C interface then
// either does without that memory or ends in OUT_OF_MEMORY; nothing leaks, nothing is half-made,
// and the same call succeeds afterwards with the same result.
#include <doctest/doctest.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>

#include "base/file.h"
#include "base/memory.h"
#include "reliability/allocation_faults.h"
#include "reliability/tiny_model.h"
#include "support/synthetic_byte_level.h"
#include "support/test_data.h"
#include "support/test_keys.h"

namespace flexq::test {
namespace {

constexpr int64_t kEveryK = 2000;  // beyond it about one k in twenty

// The calls under test, from a state that `run` itself brings about: it is called again after a
// failure. `result` shows what a successful run made. Neither leaves memory of its own behind.
struct Operation {
  std::function<flexq_status()> run;
  std::function<std::string()> result;
  std::function<void()> after_failure = [] {};  // what must hold after a failed run
  std::function<void()> clean_up = [] {};       // gives back what run() made
};

struct LiveMemory {
  HeapUse heap = heap_use();
  int64_t buffer_bytes = host_memory_counters().live_bytes;
  int64_t buffers = host_memory_counters().live_buffers;
};

std::string run_and_clean_up(const Operation& operation) {
  REQUIRE_OK(operation.run());
  std::string result = operation.result();
  operation.clean_up();
  return result;
}

// Returns whether the fault struck.
bool run_with_fault(const Operation& operation, const std::string& expected, Allocations which,
                    int64_t k, bool onward) {
  const LiveMemory before;
  flexq_status status = FLEXQ_OK;
  bool fired = false;
  bool explained = true;
  {
    const AllocationFault fault(which, k, onward);
    status = operation.run();
    fired = fault.fired();
    if (status != FLEXQ_OK) explained = strncmp(flexq_last_error(), "out of memory", 13) == 0;
  }
  if (!fired) REQUIRE(status == FLEXQ_OK);
  if (status == FLEXQ_OK) {
    REQUIRE(operation.result() == expected);
  } else {
    REQUIRE_MESSAGE(status == FLEXQ_ERROR_OUT_OF_MEMORY, std::string(flexq_last_error()));
    REQUIRE_MESSAGE(explained, std::string(flexq_last_error()));
    operation.after_failure();
    REQUIRE_OK(operation.run());
    REQUIRE(operation.result() == expected);
  }
  operation.clean_up();
  const LiveMemory after;
  REQUIRE(after.buffer_bytes == before.buffer_bytes);
  REQUIRE(after.buffers == before.buffers);
  REQUIRE(after.heap.live_blocks == before.heap.live_blocks);
  // glibc gives a block the rest of its place, 16 bytes, where that is too small for a block: what
  // is kept and was made anew in a run can differ by it.
  constexpr int64_t kRestBytes = 16;
  constexpr int64_t kMostRests = 4;
  REQUIRE(std::abs(after.heap.live_bytes - before.heap.live_bytes) <= kMostRests * kRestBytes);
  return fired;
}

void fail_every_allocation(const std::string& name, const Operation& operation) {
  std::string expected;
  {
    // Whatever is made once in a process exists after this: doctest's room for messages, too.
    INFO("without a fault");
    INFO("");
    expected = run_and_clean_up(operation);
    run_and_clean_up(operation);
  }
  for (const Allocations which : {Allocations::kBuffers, Allocations::kHeap}) {
    for (const bool onward : {false, true}) {
      int64_t k = 0;
      int64_t n_runs = 0;
      const std::string which_ones = onward ? " and all later ones" : "";
      const std::string kind = which == Allocations::kBuffers ? "buffer" : "heap allocation";
      for (bool fired = true; fired; k += k < kEveryK ? 1 : 20 + k % 3, ++n_runs) {
        INFO(name, ", ", kind, " ", k, which_ones);
        fired = run_with_fault(operation, expected, which, k, onward);
      }
      MESSAGE(name << ", " << kind << which_ones << ": " << n_runs << " runs");
    }
  }
}

// Contexts for the operations below: two sequences of 40 tokens, prefill in chunks of 8.
ContextHandle make_context(const flexq_model* model) {
  ContextOptionsHandle options;
  REQUIRE_OK(create(options, flexq_context_options_create));
  REQUIRE_OK(flexq_context_options_set_context_tokens(options.get(), 40));
  REQUIRE_OK(flexq_context_options_set_sequences(options.get(), 2));
  REQUIRE_OK(flexq_context_options_set_chunk_tokens(options.get(), 8));
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model, options.get()));
  return context;
}

// A model and a context whose pool has started.
struct Session {
  ModelHandle model = load_tiny_model();
  ContextHandle context = make_context(model.get());
  BatchHandle batch;
  const std::vector<int32_t> tokens = tiny_tokens(30, 1);

  Session() { REQUIRE_OK(create(batch, flexq_batch_create)); }

  flexq_status decode(int32_t sequence, int32_t begin, int32_t n_tokens) {
    flexq_status status = flexq_batch_clear(batch.get());
    if (status == FLEXQ_OK)
      status = flexq_batch_add(batch.get(), sequence, tokens.data() + begin, n_tokens,
                               FLEXQ_OUTPUT_LAST);
    if (status == FLEXQ_OK) status = flexq_context_decode(context.get(), batch.get());
    return status;
  }
  int32_t length(int32_t sequence) const {
    return flexq_context_sequence_length(context.get(), sequence);
  }
  // Asserts nothing: it runs while allocations fail, as do the other steps of an operation.
  void rewind(int32_t sequence, int32_t n_tokens) {
    flexq_context_rewind(context.get(), sequence, n_tokens);
  }
  int32_t pages_used() const {
    flexq_context_counters counters = {};
    counters.struct_size = sizeof counters;
    REQUIRE_OK(flexq_context_get_counters(context.get(), &counters));
    return static_cast<int32_t>(counters.pages_used);
  }
};

}  // namespace

TEST_CASE("T11_host_allocation_failures: the faults and the counters of this program work") {
  const HeapUse before = heap_use();
  HeapUse during{};
  bool failed[3] = {};
  {
    std::unique_ptr<int> made[3];
    const AllocationFault fault(Allocations::kHeap, 1, false);
    for (int i = 0; i < 3; ++i) {
      try {
        made[i] = std::make_unique<int>(i);
      } catch (const std::bad_alloc&) {
        failed[i] = true;
      }
    }
    during = heap_use();
  }
  CHECK_FALSE(failed[0]);
  CHECK(failed[1]);
  CHECK_FALSE(failed[2]);
  CHECK(during.live_blocks == before.live_blocks + 2);
  CHECK(heap_use().live_blocks == before.live_blocks);

  const AllocationFault fault(Allocations::kBuffers, 0, true);
  CHECK(HostBuffer::allocate(64, "buffer").status().code() == StatusCode::kOutOfMemory);
  CHECK(HostBuffer::allocate(64, "buffer").status().code() == StatusCode::kOutOfMemory);
}

TEST_CASE("T11_host_allocation_failures: load") {
  const std::string& bytes = tiny_model_bytes();
  const ModelOptionsHandle options = model_options(2);
  SourceHandle source;
  ModelHandle model;
  const auto clean_up = [&] {
    model.reset();
    source.reset();
  };
  fail_every_allocation(
      "load", {[&] {
                 flexq_status status = create(source, flexq_source_from_memory, bytes.data(),
                                              static_cast<int64_t>(bytes.size()));
                 if (status == FLEXQ_OK)
                   status = create(model, flexq_model_load, source.get(), options.get());
                 return status;
               },
               [&] {
                 flexq_model_info info = {};
                 info.struct_size = sizeof info;
                 REQUIRE_OK(flexq_model_get_info(model.get(), &info));
                 return std::string(info.policy) + std::to_string(info.n_vocab);
               },
               [&] { CHECK(model == nullptr); }, clean_up});
}

// Libraries count their memory, too: what libcrypto lacks must not look like a wrong signature.
TEST_CASE("T11_host_allocation_failures: load of a signed bundle") {
  const std::string& bytes = signed_tiny_model_bytes();
  SourceHandle source;
  BundleHandle bundle;
  fail_every_allocation(
      "load of a signed bundle",
      {[&] {
         flexq_status status = create(source, flexq_source_from_memory, bytes.data(),
                                      static_cast<int64_t>(bytes.size()));
         if (status == FLEXQ_OK)
           status = flexq_source_require_key(source.get(), kTestPublicKey.data(),
                                             static_cast<int64_t>(kTestPublicKey.size()));
         if (status == FLEXQ_OK) status = create(bundle, flexq_bundle_open, source.get());
         return status;
       },
       [&] {
         std::string signer(64, '\0');
         int64_t n_bytes = 0;
         REQUIRE_OK(flexq_bundle_signer(bundle.get(), signer.data(), 64, &n_bytes));
         return signer;
       },
       [&] { CHECK(bundle == nullptr); },
       [&] {
         bundle.reset();
         source.reset();
       }});
}

TEST_CASE("T11_host_allocation_failures: signing leaves the unsigned file") {
  keep_temporaries_in_memory();
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  const auto put_unsigned = [&] { std::ofstream(path, std::ios::binary) << tiny_model_bytes(); };
  const auto holds_only = [&](const std::string& bytes) {
    const auto names = list_directory(directory.path());
    return names.ok() && names->size() == 1 && read_file_bytes(path) == bytes;
  };
  signed_tiny_model_bytes();
  put_unsigned();
  fail_every_allocation("sign", {[&] {
                                   return flexq_bundle_sign(
                                       path.c_str(), kTestSecretKey.data(),
                                       static_cast<int64_t>(kTestSecretKey.size()), 2, nullptr,
                                       nullptr);
                                 },
                                 [&] {
                                   CHECK(holds_only(signed_tiny_model_bytes()));
                                   return std::string();
                                 },
                                 [&] { CHECK(holds_only(tiny_model_bytes())); }, put_unsigned});
}

TEST_CASE("T11_host_allocation_failures: load of a checkpoint, plan, inspect and verify") {
  const TemporaryDirectory directory;
  const std::string checkpoint = write_tiny_checkpoint(directory.path());
  const ModelOptionsHandle options = model_options(2);
  SourceHandle folder;
  REQUIRE_OK(create(folder, flexq_source_open, checkpoint.c_str()));
  ModelHandle model;
  fail_every_allocation(
      "load of a checkpoint",
      {[&] { return create(model, flexq_model_load, folder.get(), options.get()); },
       [] { return std::string(); }, [&] { CHECK(model == nullptr); }, [&] { model.reset(); }});

  const SourceHandle source = source_of(tiny_model_bytes());
  BundleHandle bundle;
  flexq_plan plan = {};
  plan.struct_size = sizeof plan;
  fail_every_allocation("plan, inspect and verify",
                        {[&] {
                           flexq_status status =
                               flexq_model_plan(source.get(), options.get(), nullptr, 0, &plan);
                           if (status == FLEXQ_OK)
                             status = create(bundle, flexq_bundle_open, source.get());
                           if (status == FLEXQ_OK)
                             status = flexq_bundle_verify(bundle.get(), 2, nullptr, nullptr);
                           return status;
                         },
                         [&] {
                           int64_t n_bytes = 0;
                           flexq_bundle_json(bundle.get(), nullptr, 0, &n_bytes);
                           return std::to_string(n_bytes) + " " + std::to_string(plan.total_bytes);
                         },
                         [] {}, [&] { bundle.reset(); }});
}

TEST_CASE("T11_host_allocation_failures: context create") {
  const ModelHandle model = load_tiny_model();
  ContextHandle context;
  fail_every_allocation(
      "context create",
      {[&] { return create(context, flexq_context_create, model.get(), nullptr); },
       [] { return std::string(); }, [&] { CHECK(context == nullptr); }, [&] { context.reset(); }});
}

TEST_CASE("T11_host_allocation_failures: prefill and decode") {
  Session session;
  const auto clean_up = [&] { session.rewind(0, 0); };
  fail_every_allocation("prefill", {[&] {
                                      session.rewind(0, 0);
                                      session.batch.reset();
                                      const flexq_status made =
                                          create(session.batch, flexq_batch_create);
                                      return made == FLEXQ_OK ? session.decode(0, 0, 20) : made;
                                    },
                                    [&] { return output_bytes(session.context.get()); },
                                    [&] {
                                      CHECK(session.length(0) == 0);
                                      CHECK(session.pages_used() == 0);
                                    },
                                    clean_up});
  REQUIRE_OK(session.decode(0, 0, 20));
  fail_every_allocation("decode",
                        {[&] {
                           session.rewind(0, 20);
                           return session.decode(0, 20, 1);
                         },
                         [&] { return output_bytes(session.context.get()); },
                         [&] { CHECK(session.length(0) == 20); }, [&] { session.rewind(0, 20); }});
}

// The status of a refusal is made of memory too; when there is none the call is still undone.
TEST_CASE("T11_host_allocation_failures: refused, cancelled and full batches are undone") {
  Session session;
  REQUIRE_OK(session.decode(0, 0, 20));
  BatchHandle batch;
  REQUIRE_OK(create(batch, flexq_batch_create));
  // Sequence 1 has room for its part, sequence 0 has not.
  const std::vector<int32_t> many = tiny_tokens(30, 2);
  REQUIRE_OK(flexq_batch_add(batch.get(), 1, many.data(), 10, FLEXQ_OUTPUT_LAST));
  REQUIRE_OK(flexq_batch_add(batch.get(), 0, many.data(), 30, FLEXQ_OUTPUT_LAST));
  const auto undone = [&] {
    CHECK(session.length(0) == 20);
    CHECK(session.length(1) == 0);
    CHECK(session.pages_used() == 2);
  };
  REQUIRE(flexq_context_decode(session.context.get(), batch.get()) == FLEXQ_ERROR_CONTEXT_FULL);
  undone();
  bool fired = true;
  for (int64_t k = 0; fired; ++k) {
    CAPTURE(k);
    flexq_status status = FLEXQ_OK;
    {
      const AllocationFault fault(Allocations::kHeap, k, true);
      status = flexq_context_decode(session.context.get(), batch.get());
      fired = fault.fired();
    }
    REQUIRE((status == FLEXQ_ERROR_OUT_OF_MEMORY || status == FLEXQ_ERROR_CONTEXT_FULL));
    undone();
  }
  // A score that its progress callback cancels.
  std::vector<float> log_probs(29);
  session.rewind(0, 0);
  fired = true;
  for (int64_t k = 0; fired; ++k) {
    CAPTURE(k);
    flexq_status status = FLEXQ_OK;
    {
      const AllocationFault fault(Allocations::kHeap, k, true);
      status = flexq_context_score(
          session.context.get(), many.data(), 30, log_probs.data(),
          [](int64_t, int64_t, void*) { return 1; }, nullptr);
      fired = fault.fired();
    }
    REQUIRE((status == FLEXQ_ERROR_OUT_OF_MEMORY || status == FLEXQ_ERROR_CANCELLED));
    REQUIRE(session.length(0) == 0);
  }
}

TEST_CASE("T11_host_allocation_failures: fork and copy on write") {
  Session session;
  REQUIRE_OK(session.decode(0, 0, 20));  // a full page and a shared, partly filled one
  fail_every_allocation("fork and copy on write",
                        {[&] {
                           session.rewind(1, 0);
                           flexq_status status = flexq_context_fork(session.context.get(), 0, 1);
                           if (status == FLEXQ_OK) status = session.decode(1, 20, 3);
                           return status;
                         },
                         [&] { return output_bytes(session.context.get()); },
                         [&] {
                           CHECK(session.length(0) == 20);
                           CHECK((session.length(1) == 0 || session.length(1) == 20));
                         },
                         [&] { session.rewind(1, 0); }});
}

TEST_CASE("T11_host_allocation_failures: save and restore") {
  keep_temporaries_in_memory();
  const TemporaryDirectory directory;
  const std::string path = directory.file("session");
  Session session;
  flexq_context* context = session.context.get();
  REQUIRE_OK(session.decode(0, 0, 20));
  REQUIRE_OK(flexq_context_set_sequence_note(context, 0, "a note", 6));
  REQUIRE_OK(flexq_context_save_sequence(context, 0, path.c_str()));
  const std::string expected = read_file_bytes(path);
  const auto write_old = [&] { std::ofstream(path, std::ios::binary) << "old"; };
  fail_every_allocation("save to a file",
                        {[&] { return flexq_context_save_sequence(context, 0, path.c_str()); },
                         [&] { return read_file_bytes(path); },
                         [&] {
                           const std::string found = read_file_bytes(path);
                           REQUIRE((found == "old" || found == expected));
                           REQUIRE(list_directory(directory.path())->size() == 1);
                         },
                         write_old});

  std::string bytes(expected.size(), '\0');
  int64_t n_bytes = 0;
  fail_every_allocation("save to memory", {[&] {
                                             return flexq_context_save_sequence_to_memory(
                                                 context, 0, bytes.data(), std::ssize(bytes),
                                                 &n_bytes);
                                           },
                                           [&] { return bytes; }});

  REQUIRE_OK(flexq_context_save_sequence(context, 0, path.c_str()));
  const auto is_empty = [&] {
    CHECK(session.length(1) == 0);
    CHECK(session.pages_used() == 2);
  };
  const auto clean_up = [&] {
    session.rewind(1, 0);
    flexq_context_set_sequence_note(context, 1, nullptr, 0);
  };
  const auto restored = [&] {
    flexq_context_save_sequence_to_memory(context, 1, bytes.data(), std::ssize(bytes), &n_bytes);
    REQUIRE(bytes == expected);
    return bytes;
  };
  fail_every_allocation("restore from a file", {[&] {
                                                  session.rewind(1, 0);
                                                  return flexq_context_restore_sequence(
                                                      context, 1, path.c_str());
                                                },
                                                restored, is_empty, clean_up});
  fail_every_allocation("restore from memory", {[&] {
                                                  session.rewind(1, 0);
                                                  return flexq_context_restore_sequence_from_memory(
                                                      context, 1, expected.data(),
                                                      std::ssize(expected));
                                                },
                                                restored, is_empty, clean_up});
}

TEST_CASE("T11_host_allocation_failures: score and perplexity") {
  Session session;
  std::vector<float> log_probs(29);
  const auto bytes_of = [](const auto& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  };
  fail_every_allocation(
      "score", {[&] {
                  return flexq_context_score(session.context.get(), session.tokens.data(), 30,
                                             log_probs.data(), nullptr, nullptr);
                },
                [&] { return bytes_of(log_probs); }, [&] { CHECK(session.length(0) == 0); }});
  const std::string text(200, 'a');
  flexq_perplexity_result result = {};
  result.struct_size = sizeof result;
  fail_every_allocation("perplexity", {[&] {
                                         return flexq_evaluate_perplexity(
                                             session.model.get(), nullptr, text.data(),
                                             static_cast<int64_t>(text.size()), 16, 2, nullptr,
                                             nullptr, &result);
                                       },
                                       [&] { return std::to_string(result.mean_nll); }});
}

TEST_CASE("T11_host_allocation_failures: continuations, choices and comparison") {
  Session session;
  std::vector<double> scores(3);
  const auto bytes_of = [](const std::vector<double>& values) {
    return std::string(reinterpret_cast<const char*>(values.data()),
                       values.size() * sizeof(double));
  };
  const auto are_empty = [&] { CHECK((session.length(0) == 0 && session.length(1) == 0)); };
  ContinuationsHandle list;
  fail_every_allocation("continuations",
                        {[&] {
                           list.reset();
                           flexq_status status = create(list, flexq_continuations_create);
                           for (int32_t i = 0; i < 3 && status == FLEXQ_OK; ++i) {
                             status = flexq_continuations_add(list.get(), session.tokens.data(), 20,
                                                              session.tokens.data() + i, 3 + i);
                           }
                           if (status != FLEXQ_OK) return status;
                           return flexq_context_score_continuations(
                               session.context.get(), list.get(), scores.data(), nullptr, nullptr);
                         },
                         [&] { return bytes_of(scores); },
                         [&] {
                           are_empty();
                           list.reset();
                         },
                         [&] { list.reset(); }});

  const TemporaryDirectory directory;
  const std::string path = directory.file("arc.jsonl");
  std::ofstream(path) << R"({"question": "a", "answerKey": "y", )"
                         R"("choices": {"text": ["the hen", "a rat"], "label": ["x", "y"]}})";
  QuestionsHandle questions;
  fail_every_allocation(
      "questions", {[&] { return create(questions, flexq_questions_open, "arc", path.c_str()); },
                    [&] { return std::to_string(flexq_questions_count(questions.get())); },
                    [&] { CHECK(questions == nullptr); }, [&] { questions.reset(); }});
  REQUIRE_OK(create(questions, flexq_questions_open, "arc", path.c_str()));
  flexq_choice_result choice = {};
  choice.struct_size = sizeof choice;
  fail_every_allocation("choices", {[&] {
                                      return flexq_evaluate_choices(session.model.get(), nullptr,
                                                                    questions.get(), 2, 0, nullptr,
                                                                    nullptr, nullptr, &choice);
                                    },
                                    [&] { return std::to_string(choice.n_correct); }});
  const std::string text(200, 'a');
  flexq_comparison_result compared = {};
  compared.struct_size = sizeof compared;
  fail_every_allocation("comparison", {[&] {
                                         return flexq_evaluate_comparison(
                                             session.model.get(), session.model.get(), nullptr,
                                             text.data(), static_cast<int64_t>(text.size()), 16, 2,
                                             nullptr, nullptr, &compared);
                                       },
                                       [&] { return std::to_string(compared.mean_nll_a); }});
}

TEST_CASE("T11_host_allocation_failures: generator") {
  Session session;
  SamplingHandle sampling;
  REQUIRE_OK(create(sampling, flexq_sampling_create));
  REQUIRE_OK(flexq_sampling_set_temperature(sampling.get(), 0.8f));
  REQUIRE_OK(flexq_sampling_set_top_p(sampling.get(), 0.9f));
  REQUIRE_OK(flexq_sampling_set_penalties(sampling.get(), 1.1f, 0.1f, 0.1f, 16));
  GeneratorOptionsHandle options;
  GeneratorHandle generator;
  const std::string prompt = "a b c";
  std::string answer;
  answer.reserve(1000);
  int32_t n_events = 0;
  const auto read_counts = [&](flexq_generator_stats& stats) {
    stats.struct_size = sizeof stats;
    REQUIRE_OK(flexq_generator_get_stats(generator.get(), &stats));
  };
  const auto run = [&] {
    session.rewind(0, 0);
    generator.reset();
    answer.clear();
    n_events = 0;
    flexq_status status = create(options, flexq_generator_options_create);
    if (status == FLEXQ_OK) status = flexq_generator_options_set_max_tokens(options.get(), 6);
    if (status == FLEXQ_OK) status = flexq_generator_options_set_log_probs(options.get(), 3);
    if (status == FLEXQ_OK) status = flexq_generator_options_set_ignore_end(options.get(), 1);
    if (status == FLEXQ_OK)
      status = flexq_generator_options_set_sampling(options.get(), sampling.get());
    if (status == FLEXQ_OK)
      status = flexq_generator_options_add_stop(options.get(), "never to be seen", 16);
    if (status == FLEXQ_OK)
      status = create(generator, flexq_generator_create, session.context.get(), options.get());
    if (status == FLEXQ_OK)
      status = flexq_generator_start(generator.get(), prompt.data(),
                                     static_cast<int64_t>(prompt.size()), FLEXQ_ENCODE_DEFAULT);
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    while (status == FLEXQ_OK && event.finish_reason == FLEXQ_FINISH_NONE) {
      status = flexq_generator_next(generator.get(), &event);
      if (status != FLEXQ_OK) break;
      ++n_events;
      answer.append(event.text, static_cast<size_t>(event.text_bytes));
      answer.append(reinterpret_cast<const char*>(event.alternative_log_probs),
                    static_cast<size_t>(event.n_alternatives) * sizeof(float));
    }
    return status;
  };
  // The sequence holds the prompt and all tokens but the last; events and tokens agree.
  const auto after_failure = [&] {
    if (generator == nullptr) return;
    flexq_generator_stats stats = {};
    read_counts(stats);
    CHECK(stats.n_generated_tokens == std::min(n_events, 6));
    const bool computed = stats.n_generated_tokens > 0;
    CHECK(session.length(0) ==
          (computed ? stats.n_prompt_tokens + stats.n_generated_tokens - 1 : 0));
    const bool ran = stats.finish_reason != FLEXQ_FINISH_NONE;
    if (ran) CHECK(stats.finish_reason == FLEXQ_FINISH_ERROR);
    flexq_token_event event = {};
    event.struct_size = sizeof event;
    CHECK(flexq_generator_next(generator.get(), &event) == FLEXQ_ERROR_INVALID_STATE);
  };
  const auto clean_up = [&] {
    generator.reset();
    options.reset();
    session.rewind(0, 0);
  };
  fail_every_allocation("generator", {run, [&] { return answer; }, after_failure, clean_up});

  // Run to the end, with the callback.
  const auto count_event = [](const flexq_token_event*, void* user_data) {
    ++*static_cast<int32_t*>(user_data);
    return 0;
  };
  fail_every_allocation(
      "generator run",
      {[&] {
         session.rewind(0, 0);
         n_events = 0;
         flexq_status status =
             create(generator, flexq_generator_create, session.context.get(), nullptr);
         if (status == FLEXQ_OK)
           status = flexq_generator_start_tokens(generator.get(), session.tokens.data(), 35 - 6);
         if (status == FLEXQ_OK)
           status = flexq_generator_run(generator.get(), count_event, &n_events);
         return status;
       },
       [&] {
         int64_t n_bytes = 0;
         flexq_generator_text(generator.get(), nullptr, 0, &n_bytes);
         return std::to_string(n_events) + " " + std::to_string(n_bytes);
       },
       [] {}, clean_up});
}

TEST_CASE("T11_host_allocation_failures: sampler") {
  const std::vector<int32_t> history = tiny_tokens(20, 3);
  std::vector<float> logits(320);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(i % 17) * 0.25f;
  SamplingHandle sampling;
  int32_t token = -1;
  float log_prob = 0;
  fail_every_allocation(
      "sampler", {[&] {
                    flexq_status status = create(sampling, flexq_sampling_create);
                    if (status == FLEXQ_OK)
                      status = flexq_sampling_set_temperature(sampling.get(), 1.0f);
                    if (status == FLEXQ_OK) status = flexq_sampling_set_top_k(sampling.get(), 50);
                    if (status == FLEXQ_OK)
                      status = flexq_sampling_set_penalties(sampling.get(), 1.2f, 0, 0, 16);
                    if (status == FLEXQ_OK)
                      status = flexq_sampling_set_logit_bias(sampling.get(), 7, 1.5f);
                    if (status == FLEXQ_OK)
                      status = flexq_sampling_set_logit_bias(sampling.get(), 3, -1.5f);
                    if (status == FLEXQ_OK)
                      status = flexq_sampling_sample(sampling.get(), logits.data(), 320,
                                                     history.data(), 20, 20, &token, &log_prob);
                    return status;
                  },
                  [&] { return std::to_string(token) + " " + std::to_string(log_prob); }, [] {},
                  [&] { sampling.reset(); }});
}

namespace {

// Opens the source's tokenizer, encodes and decodes: with some allocation failing each time.
void fail_allocations_of_tokenizer(const std::string& kind, flexq_source* source,
                                   const std::string& text) {
  TokenizerHandle tokenizer;
  fail_every_allocation(
      kind + " open", {[&] { return create(tokenizer, flexq_tokenizer_open, source); },
                       [&] { return std::to_string(flexq_tokenizer_vocab_size(tokenizer.get())); },
                       [&] { CHECK(tokenizer == nullptr); }, [&] { tokenizer.reset(); }});
  REQUIRE_OK(create(tokenizer, flexq_tokenizer_open, source));
  std::vector<int32_t> tokens(200);
  int32_t n_tokens = 0;
  std::vector<char> decoded(400);
  int64_t n_bytes = 0;
  fail_every_allocation(
      kind + " encode and decode",
      {[&] {
         flexq_status status = flexq_tokenizer_encode(
             tokenizer.get(), text.data(), static_cast<int64_t>(text.size()),
             FLEXQ_ENCODE_ADD_BOS | FLEXQ_ENCODE_PARSE_SPECIAL, tokens.data(), 200, &n_tokens);
         if (status == FLEXQ_OK)
           status = flexq_tokenizer_decode(tokenizer.get(), tokens.data(), n_tokens, decoded.data(),
                                           400, &n_bytes);
         return status;
       },
       [&] { return std::string(decoded.data(), static_cast<size_t>(n_bytes)); }});
}

}  // namespace

TEST_CASE("T11_host_allocation_failures: tokenizers") {
  const std::string text = "hello aaabbb \xf0\x9f\x98\x80 world";
  const SourceHandle bundle = source_of(tiny_model_bytes());
  fail_allocations_of_tokenizer("SentencePiece", bundle.get(), "<s>" + text + "</s>");

  const std::string files[][2] = {{"tokenizer.model", synthetic_tiktoken_model(520)},
                                  {"tokenizer.json", synthetic_tokenizer_json(520)}};
  for (const auto& [name, content] : files) {
    const TemporaryDirectory folder;
    write_files(folder.path(), {{name, content}});
    SourceHandle source;
    REQUIRE_OK(create(source, flexq_source_open, folder.path().c_str()));
    fail_allocations_of_tokenizer("byte-level " + name, source.get(),
                                  "<|begin_of_text|>" + text + "<|eot_id|>");
  }
}

TEST_CASE("T11_host_allocation_failures: conversation") {
  const SourceHandle source = source_of(tiny_model_bytes());
  TokenizerHandle tokenizer;
  REQUIRE_OK(create(tokenizer, flexq_tokenizer_open, source.get()));
  ChatHandle chat;
  GeneratorOptionsHandle options;
  std::vector<int32_t> tokens(200);
  int32_t n_tokens = 0;
  fail_every_allocation(
      "conversation",
      {[&] {
         flexq_status status = create(chat, flexq_chat_create);
         for (const char* role : {"system", "user", "assistant", "user"})
           if (status == FLEXQ_OK)
             status = flexq_chat_add(chat.get(), role, "longer than a short string </s>", 31);
         if (status == FLEXQ_OK)
           status = flexq_tokenizer_encode_chat(tokenizer.get(), "llama-2", chat.get(), 1,
                                                tokens.data(), 200, &n_tokens);
         if (status == FLEXQ_OK) status = create(options, flexq_generator_options_create);
         if (status == FLEXQ_OK)
           status =
               flexq_generator_options_add_chat_stops(options.get(), tokenizer.get(), "llama-2");
         return status;
       },
       [&] {
         return std::string(reinterpret_cast<const char*>(tokens.data()),
                            static_cast<size_t>(n_tokens) * sizeof(int32_t));
       },
       [] {},
       [&] {
         chat.reset();
         options.reset();
       }});
}

TEST_CASE("T11_host_allocation_failures: quantize leaves the old file or none") {
  keep_temporaries_in_memory();
  const TemporaryDirectory input;
  const std::string checkpoint = write_tiny_checkpoint(input.path());
  const TemporaryDirectory output;
  const std::string path = output.file("model.flexq");
  const std::string& expected = tiny_model_bytes();
  QuantizeOptionsHandle options;
  REQUIRE_OK(create(options, flexq_quantize_options_create));
  REQUIRE_OK(flexq_quantize_options_set_threads(options.get(), 2));
  const auto only_file = [&](const std::string& name) {
    const auto names = list_directory(output.path());
    REQUIRE(names.ok());
    return name.empty() ? names->empty() : *names == std::vector<std::string>{name};
  };
  fail_every_allocation(
      "quantize", {[&] { return flexq_quantize(checkpoint.c_str(), path.c_str(), options.get()); },
                   [&] {
                     CHECK(only_file("model.flexq"));
                     CHECK(read_file_bytes(path) == expected);
                     return std::string();
                   },
                   [&] { CHECK(only_file("")); }, [&] { std::filesystem::remove(path); }});
}

TEST_CASE("T11_host_allocation_failures: releasing everything needs no memory") {
  auto session = std::make_unique<Session>();
  REQUIRE_OK(session->decode(0, 0, 20));
  GeneratorHandle generator;
  REQUIRE_OK(create(generator, flexq_generator_create, session->context.get(), nullptr));
  const SourceHandle source = source_of(tiny_model_bytes());
  BundleHandle bundle;
  REQUIRE_OK(create(bundle, flexq_bundle_open, source.get()));
  bool fired = false;
  {
    const AllocationFault fault(Allocations::kHeap, 0, true);
    session.reset();
    generator.reset();
    bundle.reset();
    fired = fault.fired();
  }
  CHECK_FALSE(fired);
  CHECK(host_memory_counters().live_buffers == 0);
}

TEST_CASE("T11_host_allocation_failures: no thread can be started") {
  const std::string expected = [] {
    Session session;
    REQUIRE_OK(session.decode(0, 0, 20));
    return output_bytes(session.context.get());
  }();
  // A default stack beyond the address space makes pthread_create fail.
  pthread_attr_t usual;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  pthread_attr_t impossible;
  REQUIRE(pthread_attr_init(&impossible) == 0);
  REQUIRE(pthread_attr_setstacksize(&impossible, size_t{1} << 50) == 0);
  REQUIRE(pthread_setattr_default_np(&impossible) == 0);
  std::string found;
  {
    Session session;
    REQUIRE_OK(session.decode(0, 0, 20));
    found = output_bytes(session.context.get());
  }
  const TemporaryDirectory directory;
  const std::string checkpoint = write_tiny_checkpoint(directory.path());
  const std::string path = directory.file("model.flexq");
  const flexq_status quantized = flexq_quantize(checkpoint.c_str(), path.c_str(), nullptr);
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  pthread_attr_destroy(&impossible);
  pthread_attr_destroy(&usual);
  CHECK(found == expected);
  CHECK(quantized == FLEXQ_OK);
  CHECK(read_file_bytes(path) == tiny_model_bytes());
}

}  // namespace flexq::test
