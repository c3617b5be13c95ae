/* What C answers to the prompts that every language binding is compared on:
 *
 *     bindings_reference BUNDLE_DIR PROMPTS.tsv
 *
 * BUNDLE_DIR has a bundle <checkpoint>-<policy>.flexq for each pair in PROMPTS.tsv, whose columns
 * its own comment names. Prints a line for each case, tab-separated: id, bytes of the prompt, token
 * ids of the prompt and of the answer (separated by commas), bytes of the answer in hexadecimal. */
#include <flexq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_FIELDS = 8, LINE_BYTES = 1 << 16, MAX_TOKENS = 1024, MAX_TEXT_BYTES = 1 << 16 };

struct test_case {
  const char* id;
  const char* checkpoint;
  const char* policy;
  uint64_t seed;
  float temperature;
  int32_t top_k;
  int32_t max_tokens;
  const char* prompt;
};

/* Cuts a line at its tabs, in place. Returns 0 when it has other than N_FIELDS fields. */
static int parse(char* line, struct test_case* test) {
  char* fields[N_FIELDS];
  int n_fields = 0;
  line[strcspn(line, "\n")] = '\0';
  for (char* field = line; field != NULL && n_fields < N_FIELDS; ++n_fields) {
    char* tab = strchr(field, '\t');
    fields[n_fields] = field;
    field = tab == NULL ? NULL : tab + 1;
    if (tab != NULL && n_fields < N_FIELDS - 1) *tab = '\0';
  }
  if (n_fields != N_FIELDS || strchr(fields[N_FIELDS - 1], '\t') != NULL) return 0;
  test->id = fields[0];
  test->checkpoint = fields[1];
  test->policy = fields[2];
  test->seed = strtoull(fields[3], NULL, 10);
  test->temperature = strtof(fields[4], NULL);
  test->top_k = (int32_t)strtol(fields[5], NULL, 10);
  test->max_tokens = (int32_t)strtol(fields[6], NULL, 10);
  test->prompt = fields[7];
  return 1;
}

static flexq_status load(const char* path, flexq_model** model) {
  flexq_source* source = NULL;
  flexq_status status = flexq_source_open(path, &source);
  if (status == FLEXQ_OK) status = flexq_model_load(source, NULL, model);
  flexq_source_release(source);
  return status;
}

static flexq_status set_options(const struct test_case* test, flexq_sampling* sampling,
                                flexq_generator_options* options) {
  flexq_status status = flexq_sampling_set_seed(sampling, test->seed);
  if (status == FLEXQ_OK) status = flexq_sampling_set_temperature(sampling, test->temperature);
  if (status == FLEXQ_OK) status = flexq_sampling_set_top_k(sampling, test->top_k);
  if (status == FLEXQ_OK) status = flexq_generator_options_set_sampling(options, sampling);
  if (status == FLEXQ_OK)
    status = flexq_generator_options_set_max_tokens(options, test->max_tokens);
  return status;
}

static void print_tokens(const int32_t* tokens, int32_t n_tokens) {
  putchar('\t');
  for (int32_t i = 0; i < n_tokens; ++i)
    printf("%s%d", i > 0 ? "," : "", (int)tokens[i]);
}

static flexq_status print_result(const flexq_generator* generator, const struct test_case* test) {
  static int32_t tokens[MAX_TOKENS];
  static char text[MAX_TEXT_BYTES];
  int32_t n_tokens = 0;
  int64_t text_bytes = 0;
  flexq_status status = flexq_generator_prompt_tokens(generator, tokens, MAX_TOKENS, &n_tokens);
  if (status != FLEXQ_OK) return status;
  printf("%s\t%zu", test->id, strlen(test->prompt));
  print_tokens(tokens, n_tokens);
  status = flexq_generator_tokens(generator, tokens, MAX_TOKENS, &n_tokens);
  if (status == FLEXQ_OK)
    status = flexq_generator_text(generator, text, MAX_TEXT_BYTES, &text_bytes);
  if (status != FLEXQ_OK) return status;
  print_tokens(tokens, n_tokens);
  putchar('\t');
  for (int64_t i = 0; i < text_bytes; ++i)
    printf("%02x", (unsigned)(unsigned char)text[i]);
  putchar('\n');
  return FLEXQ_OK;
}

static flexq_status answer(const flexq_model* model, const struct test_case* test) {
  flexq_sampling* sampling = NULL;
  flexq_generator_options* options = NULL;
  flexq_context* context = NULL;
  flexq_generator* generator = NULL;
  flexq_status status = flexq_sampling_create(&sampling);
  if (status == FLEXQ_OK) status = flexq_generator_options_create(&options);
  if (status == FLEXQ_OK) status = set_options(test, sampling, options);
  if (status == FLEXQ_OK) status = flexq_context_create(model, NULL, &context);
  if (status == FLEXQ_OK) status = flexq_generator_create(context, options, &generator);
  if (status == FLEXQ_OK)
    status = flexq_generator_start(generator, test->prompt, (int64_t)strlen(test->prompt),
                                   FLEXQ_ENCODE_DEFAULT);
  if (status == FLEXQ_OK) status = flexq_generator_run(generator, NULL, NULL);
  if (status == FLEXQ_OK) status = print_result(generator, test);
  flexq_generator_release(generator);
  flexq_context_release(context);
  flexq_generator_options_release(options);
  flexq_sampling_release(sampling);
  return status;
}

/* Every case of the file; a bundle is loaded again only when a case needs another one. */
static int run(const char* bundles, FILE* prompts) {
  static char line[LINE_BYTES];
  char loaded[1024] = "";
  flexq_model* model = NULL;
  flexq_status status = FLEXQ_OK;
  int n_cases = 0;
  while (status == FLEXQ_OK && fgets(line, LINE_BYTES, prompts) != NULL) {
    struct test_case test;
    char path[1024];
    if (line[0] == '#') continue;
    if (!parse(line, &test)) {
      fprintf(stderr, "expected %d fields in the line that begins: %.60s\n", N_FIELDS, line);
      break;
    }
    snprintf(path, sizeof path, "%s/%s-%s.flexq", bundles, test.checkpoint, test.policy);
    if (strcmp(path, loaded) != 0) {
      flexq_model_release(model);
      model = NULL;
      status = load(path, &model);
      strcpy(loaded, path);
    }
    if (status == FLEXQ_OK) status = answer(model, &test);
    if (status == FLEXQ_OK) ++n_cases;
    if (status != FLEXQ_OK)
      fprintf(stderr, "%s: %s: %s\n", test.id, flexq_status_name(status), flexq_last_error());
  }
  flexq_model_release(model);
  return status == FLEXQ_OK && feof(prompts) && n_cases > 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  FILE* prompts;
  int code;
  if (argc != 3) {
    fprintf(stderr, "usage: %s BUNDLE_DIR PROMPTS.tsv\n", argv[0]);
    return 2;
  }
  prompts = fopen(argv[2], "r");
  if (prompts == NULL) {
    perror(argv[2]);
    return 1;
  }
  code = run(argv[1], prompts);
  fclose(prompts);
  return code;
}
