/* Continues many prompts at once:  batch MODEL.flexq PROMPT...
 *
 * Each prompt is a sequence of one context; every decode call computes the next token of all. */
#include <flexq.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SEQUENCES = 64, PROMPT_TOKENS = 256, NEW_TOKENS = 32, TEXT_BYTES = 1 << 16 };

struct sequence {
  int32_t tokens[PROMPT_TOKENS + NEW_TOKENS]; /* prompt and answer */
  int32_t n_tokens;
  int32_t n_computed; /* tokens that the context holds */
  int32_t has_ended;
};

static flexq_status open_model(const char* path, int32_t n_sequences, flexq_model** model,
                               flexq_tokenizer** tokenizer, flexq_context** context) {
  flexq_source* source = NULL;
  flexq_context_options* options = NULL;
  flexq_status status = flexq_source_open(path, &source);
  if (status == FLEXQ_OK) status = flexq_model_load(source, NULL, model);
  if (status == FLEXQ_OK) status = flexq_model_tokenizer(*model, tokenizer);
  if (status == FLEXQ_OK) status = flexq_context_options_create(&options);
  if (status == FLEXQ_OK) status = flexq_context_options_set_sequences(options, n_sequences);
  if (status == FLEXQ_OK) status = flexq_context_create(*model, options, context);
  flexq_context_options_release(options);
  flexq_source_release(source);
  return status;
}

/* One token more for each sequence that has not ended. */
static flexq_status step(const flexq_model* model, flexq_context* context, flexq_batch* batch,
                         const flexq_sampling* sampling, struct sequence* sequences,
                         int32_t n_sequences) {
  int32_t n_added = 0, row = 0;
  flexq_status status = flexq_batch_clear(batch);
  for (int32_t i = 0; i < n_sequences && status == FLEXQ_OK; ++i) {
    struct sequence* s = &sequences[i];
    if (s->has_ended) continue;
    status = flexq_batch_add(batch, i, s->tokens + s->n_computed, s->n_tokens - s->n_computed,
                             FLEXQ_OUTPUT_LAST);
    s->n_computed = s->n_tokens;
    ++n_added;
  }
  if (status != FLEXQ_OK || n_added == 0) return status;
  status = flexq_context_decode(context, batch);
  for (int32_t i = 0; i < n_sequences && status == FLEXQ_OK; ++i) {
    struct sequence* s = &sequences[i];
    const float* logits = NULL;
    int32_t n_vocab = 0, token = 0;
    if (s->has_ended) continue;
    status = flexq_context_logits(context, row++, &logits, &n_vocab);
    if (status == FLEXQ_OK)
      status = flexq_sampling_sample(sampling, logits, n_vocab, NULL, 0, s->n_tokens, &token, NULL);
    s->has_ended = status != FLEXQ_OK || flexq_model_is_end_token(model, token);
    if (!s->has_ended) s->tokens[s->n_tokens++] = token;
  }
  return status;
}

int main(int argc, char** argv) {
  static struct sequence sequences[MAX_SEQUENCES];
  static char text[TEXT_BYTES];
  const int32_t n_sequences = argc - 2;
  flexq_model* model = NULL;
  flexq_tokenizer* tokenizer = NULL;
  flexq_context* context = NULL;
  flexq_batch* batch = NULL;
  flexq_sampling* sampling = NULL; /* greedy unless told otherwise */
  flexq_status status;
  if (n_sequences < 1 || n_sequences > MAX_SEQUENCES) {
    fprintf(stderr, "usage: %s MODEL.flexq PROMPT...\n", argv[0]);
    return 2;
  }
  status = open_model(argv[1], n_sequences, &model, &tokenizer, &context);
  if (status == FLEXQ_OK) status = flexq_batch_create(&batch);
  if (status == FLEXQ_OK) status = flexq_sampling_create(&sampling);
  for (int32_t i = 0; i < n_sequences && status == FLEXQ_OK; ++i)
    status = flexq_tokenizer_encode(tokenizer, argv[2 + i], (int64_t)strlen(argv[2 + i]),
                                    FLEXQ_ENCODE_DEFAULT, sequences[i].tokens, PROMPT_TOKENS,
                                    &sequences[i].n_tokens);
  for (int i = 0; i < NEW_TOKENS && status == FLEXQ_OK; ++i)
    status = step(model, context, batch, sampling, sequences, n_sequences);
  for (int32_t i = 0; i < n_sequences && status == FLEXQ_OK; ++i) {
    int64_t text_bytes = 0;
    status = flexq_tokenizer_decode(tokenizer, sequences[i].tokens, sequences[i].n_tokens, text,
                                    TEXT_BYTES, &text_bytes);
    if (status == FLEXQ_OK) printf("[%d] %.*s\n", (int)i, (int)text_bytes, text);
  }
  if (status != FLEXQ_OK)
    fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
  flexq_sampling_release(sampling);
  flexq_batch_release(batch);
  flexq_context_release(context);
  flexq_tokenizer_release(tokenizer);
  flexq_model_release(model);
  return status == FLEXQ_OK ? 0 : 1;
}
