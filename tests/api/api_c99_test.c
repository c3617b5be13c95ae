/* The whole flow from C99: quantize a checkpoint, verify and load the bundle, generate text.
 *   api_c99_test CHECKPOINT_DIRECTORY BUNDLE_TO_WRITE */
#include <flexq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_failed = 0;

static void check(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "failed: %s (last error: %s)\n", what, flexq_last_error());
  ++n_failed;
}
#define CHECK(condition) check(condition, #condition)

struct collected {
  char text[4096];
  size_t n_bytes;
  int n_tokens;
  int n_final;
};

static int32_t collect(const flexq_token_event* event, void* user_data) {
  struct collected* all = (struct collected*)user_data;
  const size_t n = (size_t)event->text_bytes;
  if (n > sizeof all->text - all->n_bytes) return 1;
  memcpy(all->text + all->n_bytes, event->text, n);
  all->n_bytes += n;
  if (event->finish_reason == FLEXQ_FINISH_NONE) {
    ++all->n_tokens;
  } else {
    ++all->n_final;
  }
  return 0;
}

static int32_t count_progress(int64_t done, int64_t total, void* user_data) {
  if (done == total) ++*(int*)user_data;
  return 0;
}

static void verify_bundle(flexq_source* source) {
  flexq_bundle* bundle = NULL;
  char json[65536];
  int64_t n_bytes = 0;
  int n_finished = 0;
  CHECK(flexq_bundle_open(source, &bundle) == FLEXQ_OK);
  CHECK(flexq_bundle_verify(bundle, 0, count_progress, &n_finished) == FLEXQ_OK);
  CHECK(n_finished == 1);
  CHECK(flexq_bundle_json(bundle, json, (int64_t)sizeof json, &n_bytes) == FLEXQ_OK);
  CHECK(n_bytes > 2 && json[0] == '{' && json[n_bytes - 1] == '}');
  flexq_bundle_release(bundle);
}

static void round_trip(const flexq_model* model) {
  static const char kText[] = "Lily found a big red ball.";
  flexq_tokenizer* tokenizer = NULL;
  int32_t tokens[64];
  char text[64];
  int32_t n_tokens = 0;
  int64_t n_bytes = 0;
  CHECK(flexq_model_tokenizer(model, &tokenizer) == FLEXQ_OK);
  CHECK(flexq_tokenizer_encode(tokenizer, kText, (int64_t)strlen(kText), FLEXQ_ENCODE_DEFAULT,
                               tokens, 64, &n_tokens) == FLEXQ_OK);
  CHECK(n_tokens > 1 && tokens[0] == 1);
  CHECK(flexq_tokenizer_decode(tokenizer, tokens, n_tokens, text, (int64_t)sizeof text, &n_bytes) ==
        FLEXQ_OK);
  CHECK(n_bytes == (int64_t)strlen(kText) && memcmp(text, kText, (size_t)n_bytes) == 0);
  flexq_tokenizer_release(tokenizer);
}

static void generate(const flexq_model* model) {
  static const char kPrompt[] = "Once upon a time";
  flexq_context* context = NULL;
  flexq_generator_options* options = NULL;
  flexq_generator* generator = NULL;
  flexq_generator_stats stats;
  struct collected all;
  char text[4096];
  int64_t n_bytes = 0;
  memset(&all, 0, sizeof all);
  memset(&stats, 0, sizeof stats);
  stats.struct_size = (uint32_t)sizeof stats;
  CHECK(flexq_context_create(model, NULL, &context) == FLEXQ_OK);
  CHECK(flexq_generator_options_create(&options) == FLEXQ_OK);
  CHECK(flexq_generator_options_set_max_tokens(options, 48) == FLEXQ_OK);
  CHECK(flexq_generator_create(context, options, &generator) == FLEXQ_OK);
  flexq_generator_options_release(options);
  CHECK(flexq_generator_start(generator, kPrompt, (int64_t)strlen(kPrompt), FLEXQ_ENCODE_DEFAULT) ==
        FLEXQ_OK);
  CHECK(flexq_generator_run(generator, collect, &all) == FLEXQ_OK);
  CHECK(all.n_tokens == 48 && all.n_final == 1);
  CHECK(flexq_generator_get_stats(generator, &stats) == FLEXQ_OK);
  CHECK(stats.finish_reason == FLEXQ_FINISH_LENGTH && stats.n_generated_tokens == 48);
  CHECK(flexq_generator_text(generator, text, (int64_t)sizeof text, &n_bytes) == FLEXQ_OK);
  CHECK((size_t)n_bytes == all.n_bytes && memcmp(text, all.text, all.n_bytes) == 0);
  /* The quantized model still writes the beginning that every story of its training has. */
  CHECK(n_bytes >= 12 && memcmp(text, ", there was ", 12) == 0);
  flexq_context_release(context);
  flexq_generator_release(generator);
}

int main(int argc, char** argv) {
  flexq_source* source = NULL;
  flexq_model* model = NULL;
  flexq_model_info info;
  if (argc != 3) {
    fprintf(stderr, "usage: %s CHECKPOINT_DIRECTORY BUNDLE_TO_WRITE\n", argv[0]);
    return 2;
  }
  CHECK(flexq_abi_version() == FLEXQ_ABI_VERSION);
  CHECK(flexq_quantize(argv[1], argv[2], NULL) == FLEXQ_OK);
  CHECK(flexq_source_open(argv[2], &source) == FLEXQ_OK);
  CHECK(flexq_model_load(source, NULL, &model) == FLEXQ_OK);
  memset(&info, 0, sizeof info);
  info.struct_size = (uint32_t)sizeof info;
  CHECK(flexq_model_get_info(model, &info) == FLEXQ_OK);
  CHECK(info.n_vocab == 512 && strcmp(info.policy, "flexq") == 0);
  if (n_failed == 0) {
    verify_bundle(source);
    round_trip(model);
    generate(model);
  }
  flexq_source_release(source);
  flexq_model_release(model);
  remove(argv[2]);
  if (n_failed == 0) printf("ok\n");
  return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
