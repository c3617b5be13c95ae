/* Loads a model and streams text from a prompt:  hello MODEL.flexq "Once upon a time" */
#include <flexq.h>
#include <stdio.h>
#include <string.h>

/* Called for every piece of text; a non-zero return would stop the answer. */
static int32_t print_piece(const flexq_token_event* event, void* user_data) {
  FILE* out = (FILE*)user_data;
  fwrite(event->text, 1, (size_t)event->text_bytes, out);
  return fflush(out);
}

int main(int argc, char** argv) {
  flexq_source* source = NULL;
  flexq_model* model = NULL;
  flexq_context* context = NULL;
  flexq_generator* generator = NULL;
  const char* prompt = argc > 2 ? argv[2] : "";
  flexq_status status;

  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.flexq [PROMPT]\n", argv[0]);
    return 2;
  }
  status = flexq_source_open(argv[1], &source);
  if (status == FLEXQ_OK) status = flexq_model_load(source, NULL, &model);
  if (status == FLEXQ_OK) status = flexq_context_create(model, NULL, &context);
  if (status == FLEXQ_OK) status = flexq_generator_create(context, NULL, &generator);
  if (status == FLEXQ_OK) {
    status =
        flexq_generator_start(generator, prompt, (int64_t)strlen(prompt), FLEXQ_ENCODE_DEFAULT);
  }
  if (status == FLEXQ_OK) status = flexq_generator_run(generator, print_piece, stdout);
  if (status == FLEXQ_OK) {
    printf("\n");
  } else {
    fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
  }

  /* In any order: handles keep alive what they depend on; NULL is allowed. */
  flexq_source_release(source);
  flexq_model_release(model);
  flexq_context_release(context);
  flexq_generator_release(generator);
  return status == FLEXQ_OK ? 0 : 1;
}
