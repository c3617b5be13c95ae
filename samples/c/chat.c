/* A conversation with streamed answers:  chat MODEL.flexq [TEMPLATE]
 *
 * Reads one message a line from standard input. TEMPLATE is a chat format ("llama-2", "llama-3",
 * "chatml", "zephyr", "vicuna"); without it the format that the model names itself. */
#include <flexq.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 4096, ANSWER_TOKENS = 64, ANSWER_BYTES = 1 << 16, CONTEXT_TOKENS = 4096 };

struct conversation {
  const char* template_name;
  flexq_tokenizer* tokenizer;
  flexq_context* context;
  flexq_generator_options* options;
  flexq_chat* chat;
};

static int32_t print_piece(const flexq_token_event* event, void* user_data) {
  FILE* out = (FILE*)user_data;
  fwrite(event->text, 1, (size_t)event->text_bytes, out);
  return fflush(out);
}

static flexq_status open_conversation(const char* path, struct conversation* c) {
  flexq_source* source = NULL;
  flexq_model* model = NULL;
  flexq_status status = flexq_source_open(path, &source);
  if (status == FLEXQ_OK) status = flexq_model_load(source, NULL, &model);
  if (status == FLEXQ_OK) status = flexq_model_tokenizer(model, &c->tokenizer);
  if (status == FLEXQ_OK) status = flexq_context_create(model, NULL, &c->context);
  if (status == FLEXQ_OK) status = flexq_chat_create(&c->chat);
  if (status == FLEXQ_OK) status = flexq_generator_options_create(&c->options);
  if (status == FLEXQ_OK)
    status = flexq_generator_options_add_chat_stops(c->options, c->tokenizer, c->template_name);
  if (status == FLEXQ_OK)
    status = flexq_generator_options_set_max_tokens(c->options, ANSWER_TOKENS);
  flexq_source_release(source);
  flexq_model_release(model); /* the context keeps it */
  return status;
}

static flexq_status answer(struct conversation* c, const char* message) {
  static int32_t tokens[CONTEXT_TOKENS];
  static char text[ANSWER_BYTES];
  int32_t n_tokens = 0;
  int64_t text_bytes = 0;
  flexq_generator* generator = NULL;
  flexq_status status = flexq_chat_add(c->chat, "user", message, (int64_t)strlen(message));
  if (status == FLEXQ_OK)
    status = flexq_tokenizer_encode_chat(c->tokenizer, c->template_name, c->chat, 1, tokens,
                                         CONTEXT_TOKENS, &n_tokens);
  /* The tokens are the whole conversation: begin with an empty sequence. */
  if (status == FLEXQ_OK) status = flexq_context_rewind(c->context, 0, 0);
  if (status == FLEXQ_OK) status = flexq_generator_create(c->context, c->options, &generator);
  if (status == FLEXQ_OK) status = flexq_generator_start_tokens(generator, tokens, n_tokens);
  if (status == FLEXQ_OK) status = flexq_generator_run(generator, print_piece, stdout);
  if (status == FLEXQ_OK) status = flexq_generator_text(generator, text, ANSWER_BYTES, &text_bytes);
  if (status == FLEXQ_OK) status = flexq_chat_add(c->chat, "assistant", text, text_bytes);
  flexq_generator_release(generator);
  printf("\n");
  return status;
}

int main(int argc, char** argv) {
  struct conversation conversation = {0};
  char line[LINE_BYTES];
  flexq_status status;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.flexq [TEMPLATE]\n", argv[0]);
    return 2;
  }
  conversation.template_name = argc > 2 ? argv[2] : NULL;
  status = open_conversation(argv[1], &conversation);
  while (status == FLEXQ_OK && fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] != '\0') status = answer(&conversation, line);
  }
  if (status != FLEXQ_OK)
    fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
  flexq_generator_options_release(conversation.options);
  flexq_chat_release(conversation.chat);
  flexq_context_release(conversation.context);
  flexq_tokenizer_release(conversation.tokenizer);
  return status == FLEXQ_OK ? 0 : 1;
}
