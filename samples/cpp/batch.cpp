// Continues many prompts at once:  batch MODEL.flexq PROMPT...
//
// Each prompt is a sequence of one context; every decode call computes the next token of all.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "handles.h"

namespace {

constexpr int kNewTokens = 32;

struct Sequence {
  std::vector<int32_t> tokens;  // prompt and answer
  size_t n_computed = 0;        // tokens that the context holds
  bool has_ended = false;
};

// One token more for each sequence that has not ended.
void step(const sample::Model& model, const sample::Context& context, const sample::Batch& batch,
          const sample::Sampling& sampling, std::vector<Sequence>& sequences) {
  std::vector<Sequence*> added;
  sample::check(flexq_batch_clear(batch.get()));
  for (size_t i = 0; i < sequences.size(); ++i) {
    Sequence& s = sequences[i];
    if (s.has_ended) continue;
    const auto n_new = static_cast<int32_t>(s.tokens.size() - s.n_computed);
    sample::check(flexq_batch_add(batch.get(), static_cast<int32_t>(i),
                                  s.tokens.data() + s.n_computed, n_new, FLEXQ_OUTPUT_LAST));
    s.n_computed = s.tokens.size();
    added.push_back(&s);
  }
  if (added.empty()) return;
  sample::check(flexq_context_decode(context.get(), batch.get()));
  for (size_t row = 0; row < added.size(); ++row) {
    Sequence& s = *added[row];
    const float* logits = nullptr;  // (n_vocab)
    int32_t n_vocab = 0;
    int32_t token = 0;
    sample::check(
        flexq_context_logits(context.get(), static_cast<int32_t>(row), &logits, &n_vocab));
    sample::check(flexq_sampling_sample(sampling.get(), logits, n_vocab, nullptr, 0,
                                        static_cast<int32_t>(s.tokens.size()), &token, nullptr));
    s.has_ended = flexq_model_is_end_token(model.get(), token) != 0;
    if (!s.has_ended) s.tokens.push_back(token);
  }
}

void run(const char* path, const std::vector<std::string>& prompts) {
  const auto source = sample::create<sample::Source>(flexq_source_open, path);
  const auto model = sample::create<sample::Model>(flexq_model_load, source.get(), nullptr);
  const auto tokenizer = sample::create<sample::Tokenizer>(flexq_model_tokenizer, model.get());
  const auto options = sample::create<sample::ContextOptions>(flexq_context_options_create);
  sample::check(
      flexq_context_options_set_sequences(options.get(), static_cast<int32_t>(prompts.size())));
  const auto context =
      sample::create<sample::Context>(flexq_context_create, model.get(), options.get());
  const auto batch = sample::create<sample::Batch>(flexq_batch_create);
  const auto sampling = sample::create<sample::Sampling>(flexq_sampling_create);  // greedy

  std::vector<Sequence> sequences;
  for (const std::string& prompt : prompts) {
    sequences.push_back({sample::read_tokens([&](int32_t* buffer, int32_t capacity, int32_t* n) {
      return flexq_tokenizer_encode(tokenizer.get(), prompt.data(), sample::n_bytes(prompt),
                                    FLEXQ_ENCODE_DEFAULT, buffer, capacity, n);
    })});
  }
  for (int i = 0; i < kNewTokens; ++i)
    step(model, context, batch, sampling, sequences);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<int32_t>& tokens = sequences[i].tokens;
    const auto text = sample::read_text([&](char* buffer, int64_t capacity, int64_t* n) {
      return flexq_tokenizer_decode(tokenizer.get(), tokens.data(),
                                    static_cast<int32_t>(tokens.size()), buffer, capacity, n);
    });
    std::printf("[%zu] %s\n", i, text.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL.flexq PROMPT...\n", argv[0]);
    return 2;
  }
  try {
    run(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
