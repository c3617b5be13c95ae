/* Turns a Hugging Face checkpoint into a bundle and checks it:  quantize CHECKPOINT_DIR OUT.flexq
 */
#include <flexq.h>
#include <stdio.h>
#include <stdlib.h>

static int32_t print_progress(int64_t done, int64_t total, void* user_data) {
  fprintf(stderr, "\r%s: %3d%%", (const char*)user_data,
          total > 0 ? (int)(100 * done / total) : 100);
  return 0; /* non-zero would cancel, and leave what was at OUT.flexq before */
}

static flexq_status quantize(const char* checkpoint, const char* output) {
  static char label[] = "quantizing";
  flexq_quantize_options* options = NULL;
  flexq_status status = flexq_quantize_options_create(&options);
  if (status == FLEXQ_OK) status = flexq_quantize_options_set_policy(options, "flexq");
  if (status == FLEXQ_OK)
    status = flexq_quantize_options_set_progress(options, print_progress, label);
  if (status == FLEXQ_OK) status = flexq_quantize(checkpoint, output, options);
  fprintf(stderr, "\n");
  flexq_quantize_options_release(options);
  return status;
}

/* Prints what a bundle says about itself. */
static flexq_status print_json(const flexq_bundle* bundle) {
  int64_t n_bytes = 0;
  char* text;
  flexq_status status = flexq_bundle_json(bundle, NULL, 0, &n_bytes); /* asks for the length */
  if (status != FLEXQ_ERROR_BUFFER_TOO_SMALL) return status;
  text = malloc((size_t)n_bytes);
  if (text == NULL) return FLEXQ_ERROR_OUT_OF_MEMORY;
  status = flexq_bundle_json(bundle, text, n_bytes, &n_bytes);
  if (status == FLEXQ_OK) printf("%.*s\n", (int)n_bytes, text);
  free(text);
  return status;
}

static flexq_status check(const char* path) {
  static char label[] = "verifying";
  flexq_source* source = NULL;
  flexq_bundle* bundle = NULL;
  flexq_status status = flexq_source_open(path, &source);
  if (status == FLEXQ_OK) status = flexq_bundle_open(source, &bundle);
  if (status == FLEXQ_OK) status = flexq_bundle_verify(bundle, 0, print_progress, label);
  fprintf(stderr, "\n");
  if (status == FLEXQ_OK) status = print_json(bundle);
  flexq_bundle_release(bundle);
  flexq_source_release(source);
  return status;
}

int main(int argc, char** argv) {
  flexq_status status;
  if (argc != 3) {
    fprintf(stderr, "usage: %s CHECKPOINT_DIR OUT.flexq\n", argv[0]);
    return 2;
  }
  status = quantize(argv[1], argv[2]);
  if (status == FLEXQ_OK) status = check(argv[2]);
  if (status != FLEXQ_OK)
    fprintf(stderr, "%s: %s\n", flexq_status_name(status), flexq_last_error());
  return status == FLEXQ_OK ? 0 : 1;
}
