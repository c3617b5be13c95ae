// T28 and T29: a request gives the same bits again, in any batch, and however its prompt is cut.
#include <doctest/doctest.h>

#include "base/sha256.h"
#include "reliability/tiny_model.h"

namespace flexq::test {
namespace {

constexpr int32_t kMaxBatch = 32;
constexpr int32_t kContextTokens = 112;

struct Shape {
  int32_t n_sequences = 1;
  int32_t chunk_tokens = 256;
  int32_t n_outputs = kMaxBatch;
};

ContextHandle make_context(const flexq_model* model, const Shape& shape) {
  ContextOptionsHandle options;
  REQUIRE_OK(create(options, flexq_context_options_create));
  REQUIRE_OK(flexq_context_options_set_context_tokens(options.get(), kContextTokens));
  REQUIRE_OK(flexq_context_options_set_sequences(options.get(), shape.n_sequences));
  REQUIRE_OK(flexq_context_options_set_chunk_tokens(options.get(), shape.chunk_tokens));
  REQUIRE_OK(flexq_context_options_set_outputs(options.get(), shape.n_outputs));
  ContextHandle context;
  REQUIRE_OK(create(context, flexq_context_create, model, options.get()));
  return context;
}

struct Part {
  int32_t sequence;
  const int32_t* tokens;
  int32_t n_tokens;
};

// Decodes the parts in one batch; the bytes of the last row of each.
std::string decode(flexq_context* context, const std::vector<Part>& parts) {
  BatchHandle batch;
  REQUIRE_OK(create(batch, flexq_batch_create));
  for (const Part& part : parts)
    REQUIRE_OK(
        flexq_batch_add(batch.get(), part.sequence, part.tokens, part.n_tokens, FLEXQ_OUTPUT_LAST));
  REQUIRE_OK(flexq_context_decode(context, batch.get()));
  return output_bytes(context);
}

std::string hash_of(const std::string& bytes) {
  const Sha256Digest digest =
      sha256({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return {digest.begin(), digest.end()};
}

// Prefill of 70 tokens and 32 tokens after it: the hash of all rows.
std::string run_once(const flexq_model* model, const std::vector<int32_t>& tokens) {
  const ContextHandle context = make_context(model, {});
  std::string all = decode(context.get(), {{0, tokens.data(), 70}});
  for (int32_t i = 70; i < 102; ++i)
    all += decode(context.get(), {{0, tokens.data() + i, 1}});
  return hash_of(all);
}

// What sequence `s` of a batch does: a prompt of its own length, then one token and another.
struct Request {
  std::vector<int32_t> tokens;
  int32_t n_prompt;
  std::string rows;  // alone: after the prompt and after each of the two tokens
};

Request make_request(const flexq_model* model, int32_t s) {
  Request request;
  request.n_prompt = 1 + s * 5 % 37;
  request.tokens = tiny_tokens(request.n_prompt + 2, 100 + static_cast<uint64_t>(s));
  const ContextHandle context = make_context(model, {});
  request.rows = decode(context.get(), {{0, request.tokens.data(), request.n_prompt}});
  for (int32_t i = 0; i < 2; ++i)
    request.rows +=
        decode(context.get(), {{0, &request.tokens[static_cast<size_t>(request.n_prompt + i)], 1}});
  return request;
}

// All requests of a batch of `n` side by side; what differs from the request alone is a failure.
void check_batch(const flexq_model* model, const std::vector<Request>& requests, int32_t n,
                 int32_t chunk_tokens) {
  const ContextHandle context = make_context(model, {kMaxBatch, chunk_tokens, kMaxBatch});
  std::vector<std::string> rows(static_cast<size_t>(n));
  for (int32_t step = 0; step < 3; ++step) {
    std::vector<Part> parts;
    for (int32_t s = 0; s < n; ++s) {
      const Request& request = requests[static_cast<size_t>(s)];
      // Sequences of the context in an order of their own.
      const int32_t sequence = (s * 7 + n) % kMaxBatch;
      if (step == 0) parts.push_back({sequence, request.tokens.data(), request.n_prompt});
      if (step > 0)
        parts.push_back(
            {sequence, &request.tokens[static_cast<size_t>(request.n_prompt + step - 1)], 1});
    }
    const std::string bytes = decode(context.get(), parts);
    const size_t row_bytes = bytes.size() / static_cast<size_t>(n);
    for (size_t s = 0; s < rows.size(); ++s)
      rows[s] += bytes.substr(s * row_bytes, row_bytes);
  }
  for (size_t s = 0; s < rows.size(); ++s)
    CHECK_MESSAGE(rows[s] == requests[s].rows, "batch of " << n << ", request " << s);
}

}  // namespace

TEST_CASE("T28_identical_runs: 100 runs, one hash") {
  const std::vector<int32_t> tokens = tiny_tokens(102, 1);
  for (const std::string& policy : all_policies()) {
    CAPTURE(policy);
    const ModelHandle model = load_tiny_model(policy, 3);
    const std::string expected = run_once(model.get(), tokens);
    for (int run = 1; run < 100; ++run)
      REQUIRE(run_once(model.get(), tokens) == expected);
    // Loaded anew, with another number of threads.
    REQUIRE(run_once(load_tiny_model(policy, 2).get(), tokens) == expected);
  }
}

TEST_CASE("T29_batch_sizes: 1 to 32 requests side by side, every policy and kernel table") {
  for (const std::string& policy : all_policies()) {
    std::vector<std::string> first;  // of the first table: the others agree with it
    for (const std::string& kernels : usable_kernels()) {
      CAPTURE(policy);
      CAPTURE(kernels);
      const ModelHandle model = load_tiny_model(policy, 2, kernels.c_str());
      std::vector<Request> requests;
      for (int32_t s = 0; s < kMaxBatch; ++s)
        requests.push_back(make_request(model.get(), s));
      for (int32_t n = 1; n <= kMaxBatch; ++n)
        check_batch(model.get(), requests, n, n % 2 == 0 ? 256 : 24);
      std::vector<std::string> rows;
      for (const Request& request : requests)
        rows.push_back(request.rows);
      if (first.empty()) first = rows;
      CHECK(rows == first);
    }
  }
}

TEST_CASE("T29_batch_sizes: a prompt in chunks of any size, every policy and kernel table") {
  const std::vector<int32_t> tokens = tiny_tokens(100, 2);
  for (const std::string& policy : all_policies()) {
    std::string expected;
    for (const std::string& kernels : usable_kernels()) {
      CAPTURE(policy);
      CAPTURE(kernels);
      const ModelHandle model = load_tiny_model(policy, 2, kernels.c_str());
      // The library cuts the prompt itself.
      for (const int32_t chunk_tokens : {256, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 64, 99}) {
        CAPTURE(chunk_tokens);
        const ContextHandle context = make_context(model.get(), {1, chunk_tokens, 1});
        const std::string found = decode(context.get(), {{0, tokens.data(), 100}});
        if (expected.empty()) expected = found;
        CHECK(found == expected);
      }
      // The caller cuts it.
      for (const int32_t part_tokens : {1, 9, 16, 40}) {
        CAPTURE(part_tokens);
        const ContextHandle context = make_context(model.get(), {1, 256, 1});
        std::string found;
        for (int32_t begin = 0; begin < 100; begin += part_tokens)
          found = decode(context.get(),
                         {{0, tokens.data() + begin, std::min(part_tokens, 100 - begin)}});
        CHECK(found == expected);
      }
    }
  }
}

}  // namespace flexq::test
