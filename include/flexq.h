/* flexq.h - the public C interface of FlexQ, an embeddable runtime for LLaMA models with 6-bit
 * weights and 6- or 8-bit activations (FlexQ: Zhang et al. 2025, arXiv:2508.04405).
 *
 * This header is the manual. A whole program:
 *
 *     flexq_source* source = NULL;  flexq_model* model = NULL;  flexq_context* context = NULL;
 *     flexq_generator* generator = NULL;
 *     flexq_source_open("model.flexq", &source);
 *     flexq_model_load(source, NULL, &model);
 *     flexq_context_create(model, NULL, &context);
 *     flexq_generator_create(context, NULL, &generator);
 *     flexq_generator_start(generator, "Once upon a time", 16, FLEXQ_ENCODE_DEFAULT);
 *     flexq_generator_run(generator, print_piece, NULL);
 *
 * RULES THAT HOLD EVERYWHERE
 *
 * Status     Every function that can fail returns flexq_status: FLEXQ_OK (0) or a negative code.
 *            flexq_last_error() then says, for the calling thread, what was expected and what was
 *            found. Output parameters are written on success only, unless said otherwise. The
 *            library never prints, aborts, exits or throws.
 * Handles    All handle types are opaque and reference-counted inside. Whoever gets one from a
 *            *_create, *_open, *_load or *_tokenizer function owns it and gives it back with
 *            *_release (NULL is allowed and does nothing). Handles keep alive what they depend on
 *            (a context its model, a generator its context), so the order of releases does not
 *            matter, and releasing a handle while another thread is inside a call on it is safe:
 *            the call ends normally. No new call may start on a handle after its release.
 * Threads    flexq_model, flexq_tokenizer, flexq_source, flexq_bundle and flexq_questions may be
 *            used from any number of threads at once. A flexq_context, with the generators on it,
 *            is used by one thread at a time: while a call is inside it, its callbacks included, a
 *            call from another thread, be it only to read, gets FLEXQ_ERROR_INVALID_STATE and
 *            changes nothing. Option objects, flexq_sampling, flexq_chat, flexq_batch and
 *            flexq_continuations belong to one thread at a time. The two exceptions:
 *            flexq_generator_cancel and flexq_batch_cancel may be called from any thread (not from
 *            a signal handler) at any time before the release.
 * Text       UTF-8, as pointer and length in bytes; not NUL-terminated, zero bytes allowed. Names,
 *            keys, values and paths are NUL-terminated strings.
 * Buffers    Functions that fill a caller's buffer take (buffer, capacity, out length). The length
 *            is always written; if it exceeds the capacity nothing else is written and the call
 *            returns FLEXQ_ERROR_BUFFER_TOO_SMALL. Passing NULL and 0 asks for the length (the
 *            status is FLEXQ_OK when that is 0). Text is written without a terminating NUL.
 * Structs    Only read-only info structs exist. Set struct_size = sizeof(the struct) before the
 *            call; later versions append fields and fill no more than struct_size bytes.
 * Options    Opaque objects. A NULL option object means the defaults. Every options object copies
 *            what it is given and may be released as soon as the call that takes it returns.
 * Callbacks  A function pointer with a void* user_data last. A callback runs on the thread that
 *            called the library. A non-zero return stops the operation, which then returns
 *            FLEXQ_ERROR_STOPPED_BY_CALLBACK (FLEXQ_ERROR_CANCELLED for progress callbacks). A
 *            callback must not call back into the object it was called for, except to cancel.
 * Numbers    Counts and token ids are int32_t, byte lengths int64_t, durations nanoseconds unless
 *            named otherwise. Enumerations are passed as int32_t. Results do not depend on the
 *            calling thread's floating-point mode: a call, its callbacks included, runs in the
 *            IEEE default mode (round to nearest, subnormals kept, no traps) and gives the
 *            caller's mode back.
 *
 * ABI        Functions never change their signature, status codes and enumeration values are never
 *            renumbered, fields are only appended. Should that ever break, flexq_abi_version(),
 *            which bindings compare at load, and the soname libflexq.so.0 rise. ABI.md in the
 *            sources says what else is stable.
 */
#ifndef FLEXQ_H
#define FLEXQ_H

#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define FLEXQ_API __attribute__((visibility("default")))
#else
#define FLEXQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI that this header describes; compare with flexq_abi_version(). */
#define FLEXQ_ABI_VERSION 1

/* ---------------------------------------------------------------------------------------------
 * Status
 * ------------------------------------------------------------------------------------------- */

typedef int32_t flexq_status;

enum {
  FLEXQ_OK = 0,

  /* -1 .. -99: what the caller passed */
  FLEXQ_ERROR_INVALID_ARGUMENT = -1,  /* null, negative or out of range */
  FLEXQ_ERROR_UNKNOWN_OPTION = -2,    /* no option key of that name */
  FLEXQ_ERROR_UNSUPPORTED_VALUE = -3, /* a known option, a value this build does not take */
  FLEXQ_ERROR_INVALID_STATE = -4,     /* the call does not fit what happened before */
  FLEXQ_ERROR_BUFFER_TOO_SMALL = -5,  /* the length parameter holds what is needed */

  /* -100 .. -199: the machine */
  FLEXQ_ERROR_OUT_OF_MEMORY = -100,
  FLEXQ_ERROR_IO = -101,        /* an operating-system call failed; the message names the path */
  FLEXQ_ERROR_NOT_FOUND = -102, /* a file, folder or named thing does not exist */
  FLEXQ_ERROR_NO_SPACE = -103,  /* disk or quota full */

  /* -200 .. -299: what a file says */
  FLEXQ_ERROR_CORRUPT = -200,             /* damaged or malformed */
  FLEXQ_ERROR_UNSUPPORTED_VERSION = -201, /* a newer format, or a feature unknown to this reader */
  FLEXQ_ERROR_UNSUPPORTED_MODEL = -202,   /* well-formed, but a model FlexQ does not implement */
  FLEXQ_ERROR_LIMIT_EXCEEDED = -203,      /* a declared size beyond the documented limits */
  FLEXQ_ERROR_SIGNATURE = -204,           /* a wrong signature, or none by the required key */

  /* -300 .. -399: a run */
  FLEXQ_ERROR_CANCELLED = -300,
  FLEXQ_ERROR_DEADLINE_EXCEEDED = -301,
  FLEXQ_ERROR_CONTEXT_FULL = -302, /* no room in the context length or the KV cache */
  FLEXQ_ERROR_NON_FINITE = -303,   /* NaN or infinity in weights, logits or hidden states */
  FLEXQ_ERROR_STOPPED_BY_CALLBACK = -304,
  FLEXQ_ERROR_BUDGET_NOT_MET = -305, /* no choice keeps the limit that was set */
  FLEXQ_ERROR_QUEUE_FULL = -306,     /* too many requests wait; try again later */

  /* -400 .. -499: devices */
  FLEXQ_ERROR_NO_DEVICE = -400,
  FLEXQ_ERROR_DEVICE_UNSUPPORTED = -401,
  FLEXQ_ERROR_DEVICE_LOST = -402, /* broken until the process ends; other devices go on */

  FLEXQ_ERROR_INTERNAL = -900 /* a bug in FlexQ; please report it */
};

/* The constant's name without its prefix, for example "OUT_OF_MEMORY"; "UNKNOWN" for other
 * numbers. Static storage. */
FLEXQ_API const char* flexq_status_name(flexq_status status);

/* One line about the last failure on the calling thread: what was expected, what was found. Empty
 * before the first failure; successful calls do not change it. Valid until the next failing call
 * on the same thread. Never NULL, needs no memory, cut at 1023 bytes. */
FLEXQ_API const char* flexq_last_error(void);

/* ---------------------------------------------------------------------------------------------
 * Version, build, log
 * ------------------------------------------------------------------------------------------- */

/* "MAJOR.MINOR.PATCH". Static storage. */
FLEXQ_API const char* flexq_version(void);

/* FLEXQ_ABI_VERSION of the library that is loaded. */
FLEXQ_API int32_t flexq_abi_version(void);

/* Lines of "key: value": version, compiler, build type, CPU kernel sets built in and chosen on this
 * machine, CUDA version and compiled SM list ("none" without CUDA), bundle format version, library
 * versions. Static storage. */
FLEXQ_API const char* flexq_build_info(void);

enum { FLEXQ_LOG_ERROR = 1, FLEXQ_LOG_WARNING = 2, FLEXQ_LOG_INFO = 3, FLEXQ_LOG_DEBUG = 4 };

/* One message, without a newline. May be called from any thread that is inside the library. */
typedef void (*flexq_log_callback)(int32_t level, const char* text, int64_t text_bytes,
                                   void* user_data);

/* Sets the process-wide log callback for messages up to max_level, or silences the library with
 * NULL (the default; max_level is then ignored). When the call returns no thread is inside the old
 * callback any more; do not call it from the callback itself. Errors: INVALID_ARGUMENT (max_level).
 */
FLEXQ_API flexq_status flexq_set_log_callback(flexq_log_callback callback, int32_t max_level,
                                              void* user_data);

/* Gives n_bytes (1 or more) aligned to `alignment` (a power of two), or NULL when there is no
 * memory: the call that needs it then fails with FLEXQ_ERROR_OUT_OF_MEMORY. */
typedef void* (*flexq_allocate_callback)(int64_t n_bytes, int64_t alignment, void* user_data);
/* Takes back what the allocate callback gave, with the same n_bytes. */
typedef void (*flexq_free_callback)(void* memory, int64_t n_bytes, void* user_data);

/* Sets, for the whole process, where the large host buffers come from: weights, KV cache,
 * workspaces, and the staging of loading and quantizing. Small objects (handles, token lists,
 * vocabularies) stay with the C++ runtime. NULL and NULL (the default) is the C library. Both
 * callbacks may be called from any thread, several at once, and must not call this function. Only
 * while no such buffer is in use: before the first load, or after the last model and context are
 * released. Errors: INVALID_STATE (buffers in use), INVALID_ARGUMENT (only one callback). */
FLEXQ_API flexq_status flexq_set_allocator(flexq_allocate_callback allocate,
                                           flexq_free_callback release, void* user_data);

/* Progress of a long operation. done and total are bytes, tokens or windows, as the operation
 * says; done == total in the last call. Non-zero cancels: the operation returns
 * FLEXQ_ERROR_CANCELLED and leaves nothing half-made behind. */
typedef int32_t (*flexq_progress_callback)(int64_t done, int64_t total, void* user_data);

/* ---------------------------------------------------------------------------------------------
 * Devices
 * ------------------------------------------------------------------------------------------- */

enum { FLEXQ_DEVICE_CPU = 0, FLEXQ_DEVICE_CUDA = 1 };

typedef struct flexq_device_info {
  uint32_t struct_size;
  int32_t kind;               /* FLEXQ_DEVICE_CPU, ... */
  int64_t total_memory_bytes; /* physical memory of the device */
  int64_t free_memory_bytes;  /* at the time of the call */
  int32_t n_threads;          /* CPU: processors this process may use; else 0 */
  char id[32];                /* what options take: "cpu", "cuda:0" */
  char name[128];             /* processor name */
  char kernels[32];           /* kernel set that "auto" chooses, for example "avx2" */
} flexq_device_info;

/* Devices this process can use; at least 1: device 0 is always the CPU. */
FLEXQ_API int32_t flexq_device_count(void);

/* Errors: INVALID_ARGUMENT (index outside [0, count), info NULL, struct_size too small). */
FLEXQ_API flexq_status flexq_device_get_info(int32_t index, flexq_device_info* info);

/* ---------------------------------------------------------------------------------------------
 * Sources: where a model comes from
 * ------------------------------------------------------------------------------------------- */

/* A bundle (*.flexq) or a Hugging Face checkpoint folder, before it is loaded. */
typedef struct flexq_source flexq_source;

/* Policy and precisions of a bundle: see "Building and checking bundles". */
typedef struct flexq_quantize_options flexq_quantize_options;

/* `path` is a bundle file, or a folder with a Hugging Face LLaMA checkpoint (runs unquantized: the
 * reference that quantization is measured against) or with tokenizer files alone (only
 * flexq_tokenizer_open takes that). Files are opened, and checked, when the source is used.
 * Errors: NOT_FOUND, INVALID_ARGUMENT. */
FLEXQ_API flexq_status flexq_source_open(const char* path, flexq_source** source);

/* A bundle in the caller's memory, not copied: it must stay unchanged until the source, every call
 * that uses it and every flexq_bundle opened from it are done. A loaded model does not need it any
 * more. */
FLEXQ_API flexq_status flexq_source_from_memory(const void* bytes, int64_t n_bytes,
                                                flexq_source** source);

/* Reads exactly n_bytes at offset into buffer; returns 0, or non-zero when that is impossible (the
 * load then fails with FLEXQ_ERROR_IO). Called by several threads at once, with separate buffers.
 */
typedef int32_t (*flexq_read_callback)(int64_t offset, void* buffer, int64_t n_bytes,
                                       void* user_data);

/* A bundle of size_bytes behind a read callback (an archive, an asset, an object store). The
 * callback is used as long as memory would be. */
FLEXQ_API flexq_status flexq_source_from_callback(int64_t size_bytes, flexq_read_callback read,
                                                  void* user_data, flexq_source** source);

/* Random weights of a published model's shape, made while loading: to measure speed and memory
 * without a download. shape: "tinyllama-1.1b", "llama-2-7b", "llama-2-13b", "llama-2-70b",
 * "llama-3-8b", "llama-3-70b". options (NULL: the defaults) give policy and precisions; such a
 * model has no tokenizer. Errors: UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_source_synthetic(const char* shape,
                                              const flexq_quantize_options* options,
                                              flexq_source** source);

/* From now on only a bundle that is signed with this key is taken from the source: every call that
 * opens it fails with FLEXQ_ERROR_SIGNATURE for an unsigned bundle, another key or a signature that
 * does not fit, before anything of the bundle's directory is parsed, and for whatever carries no
 * signature, checkpoints and synthetic weights. pem: an ed25519 public key as `openssl pkey
 * -pubout` writes it ("-----BEGIN PUBLIC KEY-----"). A second call replaces the key; there is no
 * way back to none. Not while another thread uses the source. Errors: INVALID_ARGUMENT (the message
 * says what was found instead of such a key). */
FLEXQ_API flexq_status flexq_source_require_key(flexq_source* source, const char* pem,
                                                int64_t pem_bytes);

FLEXQ_API void flexq_source_release(flexq_source* source);

/* ---------------------------------------------------------------------------------------------
 * Model
 * ------------------------------------------------------------------------------------------- */

/* Loaded weights with their tokenizer and thread pool. Immutable and shareable between threads. */
typedef struct flexq_model flexq_model;

typedef struct flexq_model_options flexq_model_options;

FLEXQ_API flexq_status flexq_model_options_create(flexq_model_options** options);
FLEXQ_API void flexq_model_options_release(flexq_model_options* options);

/* A comma-separated list of device ids: "auto" (default: the first CUDA device that this process
 * can use, else the CPU), "cpu", "cuda" (the first), "cuda:0". More than one device is
 * UNSUPPORTED_VALUE in this version. A device that is not there, or that this build cannot use, is
 * an error when the model is loaded (NO_DEVICE, DEVICE_UNSUPPORTED), which says why. After CUDA was
 * used a process must not use it in a child made by fork() (INVALID_STATE there). */
FLEXQ_API flexq_status flexq_model_options_set_device(flexq_model_options* options,
                                                      const char* device);

/* Threads that compute, the calling thread included; 0 (default): every processor the process may
 * use. One pool per model, started at its first parallel work and shared by all its contexts; when
 * two contexts run at once, one has the pool and the other computes on its own thread. Results do
 * not depend on the number. */
FLEXQ_API flexq_status flexq_model_options_set_threads(flexq_model_options* options,
                                                       int32_t n_threads);

/* Loading progress in decoded bytes of weights. */
FLEXQ_API flexq_status flexq_model_options_set_progress(flexq_model_options* options,
                                                        flexq_progress_callback callback,
                                                        void* user_data);

/* Rare options by name. Keys:
 *   "cpu.kernels"        "auto" (default) or a kernel set, for tests: "avx512vnni", "avxvnni",
 *                        "avx2", "portable"; all give the same bits. flexq_build_info() lists
 *                        those that this processor can run
 *   "cuda.kernels"       how CUDA computes 6-bit layers with quantized inputs: "auto" (default),
 *                        "int8" (INT8 tensor cores), "btc" (bit planes on binary tensor cores);
 *                        all give the same bits
 *   "max_decoded_bytes"  refuse bundles that declare more decoded bytes (default 1 TiB)
 * Errors: UNKNOWN_OPTION, UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_model_options_set(flexq_model_options* options, const char* key,
                                               const char* value);

/* Verifies and loads the whole model into the device's memory. There is one load path and no way
 * around its checks: size, hashes, signature, FlatBuffer verification, semantic validation. Errors:
 * NOT_FOUND, IO, CORRUPT, SIGNATURE, UNSUPPORTED_VERSION, UNSUPPORTED_MODEL, LIMIT_EXCEEDED,
 * NON_FINITE, OUT_OF_MEMORY, NO_DEVICE, DEVICE_UNSUPPORTED, DEVICE_LOST, CANCELLED. */
FLEXQ_API flexq_status flexq_model_load(flexq_source* source, const flexq_model_options* options,
                                        flexq_model** model);

FLEXQ_API void flexq_model_release(flexq_model* model);

typedef struct flexq_model_info {
  uint32_t struct_size;
  int32_t n_layers;
  int32_t n_embd;
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
  int32_t n_ff;
  int32_t n_vocab;
  int32_t context_tokens; /* what the model was trained for */
  int32_t bos_token_id;   /* -1: none */
  int32_t n_threads;      /* of this model's pool */
  int64_t n_parameters;
  int64_t weight_bytes;        /* device memory that the weights take */
  int64_t decode_weight_bytes; /* weights read to decode one token: all but the embedding */
  double bits_per_weight;      /* quantized linear layers in device memory, scales included; 16
                                  or 32 where nothing is quantized */
  char policy[32];             /* "flexq", "w6a6", ..., "none" for a checkpoint */
  char device[32];             /* "cpu", "cuda:0" */
  char kernels[32];            /* "avx512vnni", "int8" */
} flexq_model_info;

FLEXQ_API flexq_status flexq_model_get_info(const flexq_model* model, flexq_model_info* info);

typedef struct flexq_tensor_info {
  uint32_t struct_size;
  int32_t weight_bits;     /* 6, 8, 16 or 32 */
  int32_t activation_bits; /* 6 or 8; 16: not quantized */
  int32_t group_size;      /* 128, or 0 where the tensor is not quantized */
  int64_t rows;            /* outputs of a linear layer; 1 for vectors */
  int64_t cols;            /* inputs */
  char name[264];          /* as in the checkpoint: "model.layers.0.mlp.down_proj.weight" */
} flexq_tensor_info;

FLEXQ_API int32_t flexq_model_tensor_count(const flexq_model* model);
FLEXQ_API flexq_status flexq_model_get_tensor_info(const flexq_model* model, int32_t index,
                                                   flexq_tensor_info* info);

/* 1 when the token ends a text (one of the model's EOS ids), else 0. */
FLEXQ_API int32_t flexq_model_is_end_token(const flexq_model* model, int32_t token);

/* ---------------------------------------------------------------------------------------------
 * Tokenizer
 * ------------------------------------------------------------------------------------------- */

/* Immutable and shareable between threads. */
typedef struct flexq_tokenizer flexq_tokenizer;

/* Reads only the tokenizer of a source: a bundle, a checkpoint, or a folder with tokenizer.model
 * (SentencePiece BPE or tiktoken's ranks) or tokenizer.json (BPE). Errors: as flexq_model_load;
 * NOT_FOUND where there is none. */
FLEXQ_API flexq_status flexq_tokenizer_open(flexq_source* source, flexq_tokenizer** tokenizer);

/* The tokenizer of a loaded model, as a handle of its own. NOT_FOUND: the model has none. */
FLEXQ_API flexq_status flexq_model_tokenizer(const flexq_model* model, flexq_tokenizer** tokenizer);

FLEXQ_API void flexq_tokenizer_release(flexq_tokenizer* tokenizer);

FLEXQ_API int32_t flexq_tokenizer_vocab_size(const flexq_tokenizer* tokenizer);

enum {
  FLEXQ_ENCODE_PLAIN = 0,         /* no BOS; "<s>" in the text is text */
  FLEXQ_ENCODE_ADD_BOS = 1,       /* put BOS in front where this model wants one */
  FLEXQ_ENCODE_PARSE_SPECIAL = 2, /* "<s>" becomes the token: for templates, never for user text */
  FLEXQ_ENCODE_DEFAULT = 1
};

/* Text to token ids. Any bytes are accepted (invalid UTF-8 becomes U+FFFD). Work is linearithmic in
 * the text. Errors: INVALID_ARGUMENT, BUFFER_TOO_SMALL, LIMIT_EXCEEDED (over 2^28 bytes, or a
 * tokenizer whose regular expression takes more work than that). */
FLEXQ_API flexq_status flexq_tokenizer_encode(const flexq_tokenizer* tokenizer, const char* text,
                                              int64_t text_bytes, int32_t flags, int32_t* tokens,
                                              int32_t capacity, int32_t* n_tokens);

/* Token ids to text; control tokens such as BOS and EOS give nothing. The bytes that form no
 * whole character become U+FFFD each, so the text is always valid UTF-8. Errors: INVALID_ARGUMENT
 * (a token outside the vocabulary), BUFFER_TOO_SMALL. */
FLEXQ_API flexq_status flexq_tokenizer_decode(const flexq_tokenizer* tokenizer,
                                              const int32_t* tokens, int32_t n_tokens, char* text,
                                              int64_t capacity, int64_t* text_bytes);

/* The bytes that one token adds in the middle of a text. */
FLEXQ_API flexq_status flexq_tokenizer_token_bytes(const flexq_tokenizer* tokenizer, int32_t token,
                                                   char* bytes, int64_t capacity, int64_t* n_bytes);

/* --- conversations ---
 *
 * A chat model was trained on conversations written in one format, which its files carry as a Jinja
 * template. FlexQ applies formats by name: "llama-2", "llama-3", "chatml", "zephyr", "vicuna".
 * `template_name` below is one of these names; NULL: the format of the model's own template, which
 * is NOT_FOUND where the model has none and UNSUPPORTED_MODEL where it is none of these (choose one
 * then). Another name: UNSUPPORTED_VALUE. */

/* The name of the format of the model's own template. Static storage. */
FLEXQ_API flexq_status flexq_tokenizer_chat_template(const flexq_tokenizer* tokenizer,
                                                     const char** template_name);

/* The model's own Jinja template, verbatim, known or not; no bytes where it has none. */
FLEXQ_API flexq_status flexq_tokenizer_chat_template_text(const flexq_tokenizer* tokenizer,
                                                          char* text, int64_t capacity,
                                                          int64_t* text_bytes);

/* The messages of one conversation, in their order. */
typedef struct flexq_chat flexq_chat;

FLEXQ_API flexq_status flexq_chat_create(flexq_chat** chat);
FLEXQ_API void flexq_chat_release(flexq_chat* chat);

/* Appends a message. role: "system", "user" or "assistant"; the content is copied. Errors:
 * INVALID_ARGUMENT, LIMIT_EXCEEDED (over 2^28 bytes). */
FLEXQ_API flexq_status flexq_chat_add(flexq_chat* chat, const char* role, const char* content,
                                      int64_t content_bytes);

/* Forgets all messages. */
FLEXQ_API flexq_status flexq_chat_clear(flexq_chat* chat);

/* The tokens of the whole conversation, BOS included where the format or the model wants it; ends
 * with what makes the model answer when add_generation_prompt is 1 (else 0). Contents are text
 * whatever they spell: "<|eot_id|>" or "</s>" in a message is not the token. (In "llama-2" and
 * "vicuna", and in "zephyr" for most models, role markers are plain text, which a message can spell
 * too.) For flexq_generator_start_tokens or a batch. Errors: INVALID_ARGUMENT (no message; an order
 * that the format does not know, such as two user messages in a row in "llama-2"),
 * UNSUPPORTED_MODEL (the tokenizer lacks a token of the format), BUFFER_TOO_SMALL, LIMIT_EXCEEDED.
 */
FLEXQ_API flexq_status flexq_tokenizer_encode_chat(const flexq_tokenizer* tokenizer,
                                                   const char* template_name,
                                                   const flexq_chat* chat,
                                                   int32_t add_generation_prompt, int32_t* tokens,
                                                   int32_t capacity, int32_t* n_tokens);

/* Tokens that end an answer in the format, ascending: EOS, <|eot_id|>, <|im_end|>. */
FLEXQ_API flexq_status flexq_tokenizer_chat_stop_tokens(const flexq_tokenizer* tokenizer,
                                                        const char* template_name, int32_t* tokens,
                                                        int32_t capacity, int32_t* n_tokens);

/* ---------------------------------------------------------------------------------------------
 * Context: KV cache and workspace for one or many sequences
 * ------------------------------------------------------------------------------------------- */

/* One thread at a time. Everything it will ever need is allocated by flexq_context_create: no call
 * on it allocates device memory afterwards. (The CUDA driver keeps decode steps as graphs, a few
 * hundred kilobytes of its own; where it finds no memory for one, decoding goes on without.) */
typedef struct flexq_context flexq_context;

typedef struct flexq_context_options flexq_context_options;

FLEXQ_API flexq_status flexq_context_options_create(flexq_context_options** options);
FLEXQ_API void flexq_context_options_release(flexq_context_options* options);

/* Longest sequence in tokens. 0 (default): min(4096, what the model was trained for). More than the
 * model was trained for is UNSUPPORTED_VALUE when the context is created. */
FLEXQ_API flexq_status flexq_context_options_set_context_tokens(flexq_context_options* options,
                                                                int32_t n_tokens);

/* Sequences 0 .. n - 1 that can live side by side (default 1). */
FLEXQ_API flexq_status flexq_context_options_set_sequences(flexq_context_options* options,
                                                           int32_t n_sequences);

/* Tokens computed at once (default 256, on CUDA 1024): longer input is cut into chunks of this
 * size, between which cancels and deadlines are seen. Results do not depend on it; the workspace
 * does. */
FLEXQ_API flexq_status flexq_context_options_set_chunk_tokens(flexq_context_options* options,
                                                              int32_t n_tokens);

/* Tokens that the KV cache holds over all sequences, rounded up to whole pages. 0 (default):
 * sequences * context tokens. Less lets many short sequences share: a decode that finds no free
 * page fails with CONTEXT_FULL. */
FLEXQ_API flexq_status flexq_context_options_set_cache_tokens(flexq_context_options* options,
                                                              int32_t n_tokens);

/* Rows of logits or embeddings that one decode call may ask for (default: one per sequence). */
FLEXQ_API flexq_status flexq_context_options_set_outputs(flexq_context_options* options,
                                                         int32_t n_outputs);

/* Rare options by name. Keys:
 *   "kv_type"  "auto" (default: f16; on the CPU f32 for an unquantized checkpoint), "f16", "f32"
 *              (CPU only), "i8" (one fp16 scale per token and KV head)
 *   "poison"   "on" fills the workspace with NaN before every decode, for tests; "off" (default)
 * Errors: UNKNOWN_OPTION, UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_context_options_set(flexq_context_options* options, const char* key,
                                                 const char* value);

/* Memory that a model and one context take on one device, from the code that allocates. Exact for
 * the library's pools; staging while loading and small host objects come on top (under 64 MiB). */
typedef struct flexq_plan {
  uint32_t struct_size;
  int32_t kind; /* of the device: FLEXQ_DEVICE_CPU, ... */
  int64_t weight_bytes;
  int64_t kv_bytes; /* page pool of the context */
  int64_t kv_bytes_per_token;
  int64_t workspace_bytes; /* activations, logits, block tables */
  int64_t total_bytes;
  int32_t context_tokens; /* as resolved from the options */
  int32_t n_sequences;
  int32_t chunk_tokens;
  int32_t page_tokens;
  char device[32];
} flexq_plan;

/* What flexq_model_load and flexq_context_create with these options would allocate on the
 * device_index-th device of the options (0 today). Reads headers only. Errors: as flexq_model_load,
 * UNSUPPORTED_VALUE for the context options. */
FLEXQ_API flexq_status flexq_model_plan(flexq_source* source, const flexq_model_options* options,
                                        const flexq_context_options* context_options,
                                        int32_t device_index, flexq_plan* plan);

/* Errors: OUT_OF_MEMORY, UNSUPPORTED_VALUE, LIMIT_EXCEEDED. */
FLEXQ_API flexq_status flexq_context_create(const flexq_model* model,
                                            const flexq_context_options* options,
                                            flexq_context** context);

FLEXQ_API void flexq_context_release(flexq_context* context);

/* The plan that the context was created by. */
FLEXQ_API flexq_status flexq_context_get_plan(const flexq_context* context, flexq_plan* plan);

typedef struct flexq_context_counters {
  uint32_t struct_size;
  int32_t pages_total;
  int32_t pages_used;       /* shared pages count once */
  int32_t n_sequences_used; /* sequences with at least one token */
  int64_t tokens_computed;  /* through forward(), since creation */
  int64_t forward_calls;    /* chunks */
  int64_t compute_ns;       /* time inside forward() */
  int64_t pages_copied;     /* copy-on-write after forks */
} flexq_context_counters;

FLEXQ_API flexq_status flexq_context_get_counters(const flexq_context* context,
                                                  flexq_context_counters* counters);

/* --- batches: what one decode call computes --- */

/* Tokens for several sequences, with the outputs wanted; reusable after flexq_batch_clear. */
typedef struct flexq_batch flexq_batch;

enum {
  FLEXQ_OUTPUT_NONE = 0,
  FLEXQ_OUTPUT_LAST = 1, /* a row for the last of the added tokens */
  FLEXQ_OUTPUT_ALL = 2   /* a row for each of the added tokens */
};

FLEXQ_API flexq_status flexq_batch_create(flexq_batch** batch);
FLEXQ_API void flexq_batch_release(flexq_batch* batch);

/* Empties the batch and takes back a cancel. */
FLEXQ_API flexq_status flexq_batch_clear(flexq_batch* batch);

/* Appends tokens to be put after the present end of a sequence. A sequence may occur once per
 * batch. Output rows are numbered from 0 in the order of adding. Errors: INVALID_ARGUMENT,
 * OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_batch_add(flexq_batch* batch, int32_t sequence, const int32_t* tokens,
                                       int32_t n_tokens, int32_t output);

/* From any thread: the decode call that runs with this batch, or the next one to start with it,
 * returns CANCELLED; seen between layers, on CUDA before a step of one token per sequence only.
 * Stays in force until flexq_batch_clear. */
FLEXQ_API void flexq_batch_cancel(flexq_batch* batch);

/* Computes the batch: writes keys and values of its tokens into the cache and the wanted rows of
 * logits and final hidden states. On any error, a cancel included, every sequence is as it was
 * before the call. Results do not depend on what else is in the batch, on the chunk size, the
 * number of threads or the kernel set: the same bits.
 * Errors: INVALID_ARGUMENT (token or sequence out of range, too many output rows), CONTEXT_FULL,
 * CANCELLED, NON_FINITE (NaN or infinity in a wanted row). */
FLEXQ_API flexq_status flexq_context_decode(flexq_context* context, flexq_batch* batch);

/* Rows that the last successful decode gave; 0 also while another thread is inside the context. */
FLEXQ_API int32_t flexq_context_output_count(const flexq_context* context);

/* (n_vocab) logits of an output row; owned by the context, valid until its next decode,
 * score or generator call. n_vocab may be NULL. */
FLEXQ_API flexq_status flexq_context_logits(const flexq_context* context, int32_t row,
                                            const float** logits, int32_t* n_vocab);

/* (n_embd) final hidden state after the last norm, the model's embedding of the text so far;
 * lifetime as flexq_context_logits. n_embd may be NULL. */
FLEXQ_API flexq_status flexq_context_embedding(const flexq_context* context, int32_t row,
                                               const float** embedding, int32_t* n_embd);

/* --- sequences --- */

/* Tokens in the cache for a sequence; -1 for a sequence that does not exist, and while another
 * thread is inside the context. */
FLEXQ_API int32_t flexq_context_sequence_length(const flexq_context* context, int32_t sequence);

/* Keeps the first n_tokens and forgets the rest; 0 empties the sequence. Frees pages at once. */
FLEXQ_API flexq_status flexq_context_rewind(flexq_context* context, int32_t sequence,
                                            int32_t n_tokens);

/* Makes `to` a copy of `from`, replacing what it held. Pages are shared until one of the two
 * writes (copy-on-write). */
FLEXQ_API flexq_status flexq_context_fork(flexq_context* context, int32_t from, int32_t to);

/* --- saving and restoring sequences ---
 *
 * A saved sequence, a session, is its tokens with their keys and values, and its note. Restored
 * into a context of the same model it goes on as if it had never stopped, without computing its
 * tokens again: on the kind of device and with the kv_type that it was saved with the bits of all
 * results are the same, since random numbers depend on seed and position alone. Contexts may differ
 * in everything else, the device and the context length among them. Only models from bundles and
 * synthetic ones have a hash to know them by: with a checkpoint all four functions return
 * UNSUPPORTED_MODEL. Sessions are untrusted input: every byte is under a hash, every size is
 * checked before memory is asked for, every value before it reaches the cache. They contain the
 * conversation in clear text. The format: schema/SESSION.md. The same sequence gives the same
 * bytes. */

/* Writes a session to a file that only its owner can read (mode 0600). It appears under its name
 * when complete; on any error what was there before is untouched. Errors: INVALID_ARGUMENT,
 * INVALID_STATE (an empty sequence), UNSUPPORTED_MODEL, NON_FINITE (NaN or infinity in keys or
 * values), IO, NO_SPACE, NOT_FOUND (the folder), OUT_OF_MEMORY, DEVICE_LOST. */
FLEXQ_API flexq_status flexq_context_save_sequence(flexq_context* context, int32_t sequence,
                                                   const char* path);

/* The same into the caller's memory, whose content is undefined after an error. */
FLEXQ_API flexq_status flexq_context_save_sequence_to_memory(flexq_context* context,
                                                             int32_t sequence, void* session,
                                                             int64_t capacity,
                                                             int64_t* session_bytes);

/* Reads a session into an empty sequence, which is still empty, and its note as it was, after any
 * error. Errors: INVALID_ARGUMENT, INVALID_STATE (a sequence that is not empty), NOT_FOUND, IO,
 * CORRUPT, LIMIT_EXCEEDED, NON_FINITE, UNSUPPORTED_VERSION, UNSUPPORTED_MODEL (a session of another
 * model, a checkpoint), UNSUPPORTED_VALUE (another kv_type than the context's), CONTEXT_FULL (more
 * tokens than the context length or the free pages), OUT_OF_MEMORY, DEVICE_LOST. */
FLEXQ_API flexq_status flexq_context_restore_sequence(flexq_context* context, int32_t sequence,
                                                      const char* path);

/* The same from the caller's memory, which is not used any more when the call returns. */
FLEXQ_API flexq_status flexq_context_restore_sequence_from_memory(flexq_context* context,
                                                                  int32_t sequence,
                                                                  const void* session,
                                                                  int64_t session_bytes);

/* The tokens in the cache for a sequence, oldest first. A session that was saved behind an answer
 * has all of it but the last token, with which the next prompt begins (see flexq_generator_next):
 * a note can keep it. */
FLEXQ_API flexq_status flexq_context_sequence_tokens(const flexq_context* context, int32_t sequence,
                                                     int32_t* tokens, int32_t capacity,
                                                     int32_t* n_tokens);

/* Bytes of the application that go with a sequence, copied: saved and restored with it, otherwise
 * kept until they are replaced, whatever happens to the tokens; no bytes at first. Errors:
 * INVALID_ARGUMENT, LIMIT_EXCEEDED (over 2^26 bytes), OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_context_set_sequence_note(flexq_context* context, int32_t sequence,
                                                       const void* note, int64_t note_bytes);
FLEXQ_API flexq_status flexq_context_sequence_note(const flexq_context* context, int32_t sequence,
                                                   void* note, int64_t capacity,
                                                   int64_t* note_bytes);

/* Scores a text under the model: log_probs[i] = ln p(tokens[i + 1] | tokens[0 .. i]) for i in
 * [0, n_tokens - 1). Uses sequence 0, which must be empty and is empty afterwards; n_tokens at most
 * the context length. progress (may be NULL) counts tokens. */
FLEXQ_API flexq_status flexq_context_score(flexq_context* context, const int32_t* tokens,
                                           int32_t n_tokens, float* log_probs,
                                           flexq_progress_callback progress, void* user_data);

/* ---------------------------------------------------------------------------------------------
 * Sampling
 * ------------------------------------------------------------------------------------------- */

/* How the next token is drawn from logits. The stages, in this order:
 *   0. format                only tokens that the answer's format allows exist for the other stages
 *                            (see flexq_generator_options_set_format)
 *   1. logit bias            logit += bias
 *   2. penalties             over the tokens of prompt and answer (the last penalty_window):
 *                            logit > 0 ? logit / repetition : logit * repetition;
 *                            then logit -= presence + frequency * occurrences
 *   3. temperature 0         take the largest logit (the lowest id among equals) and stop here
 *   4. logits / temperature
 *   5. top-k                 keep the k largest
 *   6. min-p                 keep p >= min_p * largest p
 *   7. top-p                 keep the fewest largest whose probabilities reach top_p
 *   8. draw                  by the running sum of probabilities over ascending ids, with one
 *                            uniform number that depends on (seed, position) alone
 * Numbers are counter-based (Philox 4x32-10): the same seed and position give the same draw
 * whatever was generated before, alone or in a batch. Ties in 5-7 are broken by the lower id. */
typedef struct flexq_sampling flexq_sampling;

/* Defaults: temperature 0 (greedy), top_k 0 (off), top_p 1 (off), min_p 0 (off), penalties off (1,
 * 0, 0) over 64 tokens, no bias, seed 0. */
FLEXQ_API flexq_status flexq_sampling_create(flexq_sampling** sampling);
FLEXQ_API void flexq_sampling_release(flexq_sampling* sampling);

/* temperature in [0, 100], top_k in [0, 2^20], top_p and min_p in [0, 1]. */
FLEXQ_API flexq_status flexq_sampling_set_temperature(flexq_sampling* sampling, float temperature);
FLEXQ_API flexq_status flexq_sampling_set_top_k(flexq_sampling* sampling, int32_t top_k);
FLEXQ_API flexq_status flexq_sampling_set_top_p(flexq_sampling* sampling, float top_p);
FLEXQ_API flexq_status flexq_sampling_set_min_p(flexq_sampling* sampling, float min_p);
FLEXQ_API flexq_status flexq_sampling_set_seed(flexq_sampling* sampling, uint64_t seed);
/* repetition in (0, 100], presence and frequency in [-100, 100], penalty_window 0 or more. */
FLEXQ_API flexq_status flexq_sampling_set_penalties(flexq_sampling* sampling, float repetition,
                                                    float presence, float frequency,
                                                    int32_t penalty_window);
/* Adds to one token's logit before everything else; -INFINITY forbids the token. A second bias for
 * the same token replaces the first. */
FLEXQ_API flexq_status flexq_sampling_set_logit_bias(flexq_sampling* sampling, int32_t token,
                                                     float bias);

/* Draws one token from (n_vocab) logits. history: the tokens that penalties look at, oldest first
 * (may be NULL when n_history is 0); position: the absolute position that the new token will have.
 * log_prob (may be NULL): ln p of the token under the untouched logits. Thread-safe.
 * Errors: NON_FINITE (NaN, +infinity, or every token forbidden), INVALID_ARGUMENT, OUT_OF_MEMORY.
 */
FLEXQ_API flexq_status flexq_sampling_sample(const flexq_sampling* sampling, const float* logits,
                                             int32_t n_vocab, const int32_t* history,
                                             int32_t n_history, int32_t position, int32_t* token,
                                             float* log_prob);

/* ---------------------------------------------------------------------------------------------
 * Generator: prompt in, text out
 * ------------------------------------------------------------------------------------------- */

typedef struct flexq_generator_options flexq_generator_options;

FLEXQ_API flexq_status flexq_generator_options_create(flexq_generator_options** options);
FLEXQ_API void flexq_generator_options_release(flexq_generator_options* options);

/* Sequence of the context to write to (default 0). */
FLEXQ_API flexq_status flexq_generator_options_set_sequence(flexq_generator_options* options,
                                                            int32_t sequence);
/* Most tokens to generate (default 256; 0: until the context is full). */
FLEXQ_API flexq_status flexq_generator_options_set_max_tokens(flexq_generator_options* options,
                                                              int32_t max_tokens);
/* Copies the sampling parameters (default: greedy). */
FLEXQ_API flexq_status flexq_generator_options_set_sampling(flexq_generator_options* options,
                                                            const flexq_sampling* sampling);
/* Ends the text before the first occurrence of this string, wherever token borders lie. Up to 64
 * strings of 1 to 1,024 bytes. */
FLEXQ_API flexq_status flexq_generator_options_add_stop(flexq_generator_options* options,
                                                        const char* text, int64_t text_bytes);
/* Ends the answer at this token, as at the model's own end tokens. */
FLEXQ_API flexq_status flexq_generator_options_add_stop_token(flexq_generator_options* options,
                                                              int32_t token);
/* Adds all that ends an answer in a chat format (see flexq_tokenizer_encode_chat): the tokens of
 * flexq_tokenizer_chat_stop_tokens and, where role markers are text, the text that begins the
 * user's next turn. */
FLEXQ_API flexq_status flexq_generator_options_add_chat_stops(flexq_generator_options* options,
                                                              const flexq_tokenizer* tokenizer,
                                                              const char* template_name);
/* 1: goes on after the model's end tokens and after stop tokens (default 0). */
FLEXQ_API flexq_status flexq_generator_options_set_ignore_end(flexq_generator_options* options,
                                                              int32_t ignore_end);
/* Milliseconds from flexq_generator_start; 0 (default): none. Seen between layers. */
FLEXQ_API flexq_status flexq_generator_options_set_deadline(flexq_generator_options* options,
                                                            int64_t milliseconds);
/* Reports, with every token, the n most probable alternatives (0 .. 20, default 0). */
FLEXQ_API flexq_status flexq_generator_options_set_log_probs(flexq_generator_options* options,
                                                             int32_t n_alternatives);
/* What the answer must be: "text" (default: anything) or "json": one JSON object (RFC 8259), always
 * whole. Only tokens that go on with it are drawn, from the rest as if nothing else existed; the
 * answer ends (FLEXQ_FINISH_STOP) with the object's closing brace. It is closed in time where
 * max_tokens or the context length is near; only a cancel, a deadline, a stop string and an error
 * cut it off; end tokens and stop tokens do not. Strings are valid UTF-8, without escapes of
 * surrogates; nesting is at most 64 deep; a number has at most 64 digits and 2 of an exponent, so
 * that every parser takes it; whitespace is one blank, or 1 or 2 line breaks and an indentation of
 * at most 4 blanks a level; keys may repeat. Errors: UNSUPPORTED_VALUE. When the answer starts:
 * NOT_FOUND (no tokenizer), UNSUPPORTED_MODEL (one without a token for a byte that an object may be
 * closed with; the message says which), INVALID_ARGUMENT (room for fewer than 2 tokens). */
FLEXQ_API flexq_status flexq_generator_options_set_format(flexq_generator_options* options,
                                                          const char* format);
/* For requests to an engine (a generator ignores it): -100 .. 100, default 0. See flexq_engine. */
FLEXQ_API flexq_status flexq_generator_options_set_priority(flexq_generator_options* options,
                                                            int32_t priority);

/* One answer: created, started once, run to its end. */
typedef struct flexq_generator flexq_generator;

FLEXQ_API flexq_status flexq_generator_create(flexq_context* context,
                                              const flexq_generator_options* options,
                                              flexq_generator** generator);

FLEXQ_API void flexq_generator_release(flexq_generator* generator);

/* Sets the prompt: text, encoded with FLEXQ_ENCODE_ flags, or token ids. It is appended to what the
 * sequence already holds (an empty one: BOS is added where the flags and the model ask for it; a
 * sequence with history gets no second BOS). Computes nothing yet, starts the deadline. Errors:
 * INVALID_STATE (started before), INVALID_ARGUMENT (a prompt without a token, a token outside the
 * vocabulary), CONTEXT_FULL (prompt tokens and context length in the message). */
FLEXQ_API flexq_status flexq_generator_start(flexq_generator* generator, const char* prompt,
                                             int64_t prompt_bytes, int32_t encode_flags);
FLEXQ_API flexq_status flexq_generator_start_tokens(flexq_generator* generator,
                                                    const int32_t* tokens, int32_t n_tokens);

enum {
  FLEXQ_FINISH_NONE = 0,      /* still running */
  FLEXQ_FINISH_STOP = 1,      /* an end token, a stop string, the end of an answer in JSON */
  FLEXQ_FINISH_LENGTH = 2,    /* max_tokens, or the context is full */
  FLEXQ_FINISH_CANCELLED = 3, /* flexq_generator_cancel, or a callback that returned non-zero */
  FLEXQ_FINISH_DEADLINE = 4,
  FLEXQ_FINISH_ERROR = 5 /* the status of the call that failed says which */
};

/* One step of an answer. Pointers are valid until the next call on the generator. */
typedef struct flexq_token_event {
  uint32_t struct_size;
  int32_t finish_reason; /* FLEXQ_FINISH_NONE: this is a token; else the last event */
  int32_t token;         /* -1 in the last event, which carries only held-back text */
  int32_t position;      /* of the token in the sequence */
  const char* text;      /* newly complete bytes, whole UTF-8 characters; may be none */
  int64_t text_bytes;
  float log_prob; /* ln p(token) under the untouched logits */
  int32_t n_alternatives;
  const int32_t* alternative_tokens;  /* (n_alternatives), most probable first */
  const float* alternative_log_probs; /* (n_alternatives) */
} flexq_token_event;

/* Computes the next token (the first call also computes the prompt). After the event with a
 * finish_reason, further calls return INVALID_STATE. On error the finish reason is CANCELLED,
 * DEADLINE or ERROR and what was generated before stays readable. The sequence holds the prompt and
 * all generated tokens but the last, whose keys and values nobody needed yet (to go on behind an
 * answer that did not end with an end token, begin the next prompt with that token); it is as
 * before the start when the prompt was not finished. Errors: CANCELLED, DEADLINE_EXCEEDED,
 * CONTEXT_FULL (no free page), NON_FINITE, INVALID_STATE. */
FLEXQ_API flexq_status flexq_generator_next(flexq_generator* generator, flexq_token_event* event);

/* Called for each event, the last one included. Non-zero stops the generator. */
typedef int32_t (*flexq_token_callback)(const flexq_token_event* event, void* user_data);

/* flexq_generator_next until the end; the callback may be NULL. Errors: those of
 * flexq_generator_next, STOPPED_BY_CALLBACK. */
FLEXQ_API flexq_status flexq_generator_run(flexq_generator* generator,
                                           flexq_token_callback callback, void* user_data);

/* From any thread, at any time before the release: ends this generator's call, in the prompt too
 * (between layers; on CUDA the computation of one token runs to its end), with CANCELLED. A latch
 * of this generator: a cancel before the start is not lost, and no other generator sees it. */
FLEXQ_API void flexq_generator_cancel(flexq_generator* generator);

typedef struct flexq_generator_stats {
  uint32_t struct_size;
  int32_t finish_reason;
  int32_t n_prompt_tokens;        /* computed for this prompt, BOS included */
  int32_t n_generated_tokens;     /* an end token is not counted */
  int64_t prefill_ns;             /* prompt, until its logits are there */
  int64_t decode_ns;              /* all later forward passes and sampling */
  int64_t time_to_first_token_ns; /* from start */
} flexq_generator_stats;

FLEXQ_API flexq_status flexq_generator_get_stats(const flexq_generator* generator,
                                                 flexq_generator_stats* stats);

/* The prompt's token ids, the generated ids, and the generated text (decode(prompt + generated)
 * minus decode(prompt), cut at a stop string). */
FLEXQ_API flexq_status flexq_generator_prompt_tokens(const flexq_generator* generator,
                                                     int32_t* tokens, int32_t capacity,
                                                     int32_t* n_tokens);
FLEXQ_API flexq_status flexq_generator_tokens(const flexq_generator* generator, int32_t* tokens,
                                              int32_t capacity, int32_t* n_tokens);
FLEXQ_API flexq_status flexq_generator_text(const flexq_generator* generator, char* text,
                                            int64_t capacity, int64_t* text_bytes);

/* ---------------------------------------------------------------------------------------------
 * Engine: many requests at once
 * ------------------------------------------------------------------------------------------- */

/* Answers many requests over one context. A thread of its own, started by the first request, runs
 * step after step: one token for every answer under way, and in what is left of the step's token
 * budget the next pieces of prompts (continuous batching with chunked prefill). The context has as
 * many places as sequences; further requests wait.
 *
 * Order      By time of arrival; each level of priority counts as having come one second earlier,
 *            so nobody waits for ever. A request that waits for pages is not overtaken.
 * Pages      Whole KV pages stay behind when a request ends, least recently used ones are given up
 *            first; a prompt that begins with the same tokens as an earlier one takes them over
 *            instead of computing them, while the earlier one still runs, too. Where pages run out,
 *            the request that is last in the order gives up its own and computes them again later.
 * Results    A request's tokens are those that a generator would draw on an empty sequence,
 *            whatever else is under way. A failure that concerns one request ends no other.
 * Threads    Any number of threads may use an engine. */
typedef struct flexq_engine flexq_engine;

typedef struct flexq_engine_options flexq_engine_options;

FLEXQ_API flexq_status flexq_engine_options_create(flexq_engine_options** options);
FLEXQ_API void flexq_engine_options_release(flexq_engine_options* options);

/* Most tokens of a step, 1 to the context's chunk; 0 (default): the context's chunk. Fewer make
 * answers under way smoother while prompts are computed, and prompts slower. Never fewer than one
 * for each answer under way. */
FLEXQ_API flexq_status flexq_engine_options_set_step_tokens(flexq_engine_options* options,
                                                            int32_t n_tokens);
/* Most requests that wait for a place, 0 to 2^20 (default 1024); one more is QUEUE_FULL. */
FLEXQ_API flexq_status flexq_engine_options_set_queue(flexq_engine_options* options,
                                                      int32_t n_requests);
/* Rare options by name. Keys:
 *   "prefix_reuse"  "on" (default), "off": nothing computed is kept for other requests
 * Errors: UNKNOWN_OPTION, UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_engine_options_set(flexq_engine_options* options, const char* key,
                                                const char* value);

/* The engine has the context to itself until it is gone: other calls on the context get
 * INVALID_STATE. Errors: INVALID_STATE (a sequence that is not empty, a context in use),
 * UNSUPPORTED_VALUE (more step tokens than the chunk). */
FLEXQ_API flexq_status flexq_engine_create(flexq_context* context,
                                           const flexq_engine_options* options,
                                           flexq_engine** engine);

/* Cancels every request of the engine, waits for the step under way (between two layers it is given
 * up) and ends the thread; requests stay readable. Not from the engine's own log callbacks. */
FLEXQ_API void flexq_engine_release(flexq_engine* engine);

/* A request and its answer. flexq_request_next and the readers below are for one thread at a time,
 * flexq_request_cancel and flexq_request_get_stats for any. Releasing a request cancels it. */
typedef struct flexq_request flexq_request;

/* Queues a request and returns. Options as for a generator (NULL: the defaults; the sequence must
 * be 0, the engine chooses one); the deadline counts from here. The prompt: text, encoded with
 * FLEXQ_ENCODE_ flags; token ids; or a conversation, encoded with a generation prompt, whose
 * format's stops are added to those of the options (see flexq_tokenizer_encode_chat for
 * template_name). Errors: INVALID_ARGUMENT (a prompt without a token, a token outside the
 * vocabulary; a sequence), CONTEXT_FULL (a prompt that the context length or the whole KV cache
 * cannot hold), QUEUE_FULL, NOT_FOUND (no tokenizer), those of flexq_tokenizer_encode_chat,
 * DEVICE_LOST. */
FLEXQ_API flexq_status flexq_engine_submit(flexq_engine* engine,
                                           const flexq_generator_options* options,
                                           const char* prompt, int64_t prompt_bytes,
                                           int32_t encode_flags, flexq_request** request);
FLEXQ_API flexq_status flexq_engine_submit_tokens(flexq_engine* engine,
                                                  const flexq_generator_options* options,
                                                  const int32_t* tokens, int32_t n_tokens,
                                                  flexq_request** request);
FLEXQ_API flexq_status flexq_engine_submit_chat(flexq_engine* engine,
                                                const flexq_generator_options* options,
                                                const char* template_name, const flexq_chat* chat,
                                                flexq_request** request);

/* The next event of the answer, as flexq_generator_next gives it; waits for it for timeout_ms
 * milliseconds (negative: without end). FLEXQ_OK with token -1 and FLEXQ_FINISH_NONE: the time was
 * over, there is none yet. Pointers are valid until the next call. After the last event, or an
 * error, INVALID_STATE. Events wait until they are fetched; nobody waits for who fetches them.
 * Errors: those of flexq_generator_next. */
FLEXQ_API flexq_status flexq_request_next(flexq_request* request, int64_t timeout_ms,
                                          flexq_token_event* event);

/* From any thread, at any time before the release: ends the request, waiting or running, with
 * CANCELLED, before the next step at the latest; its pages are free then. NULL does nothing. */
FLEXQ_API void flexq_request_cancel(flexq_request* request);

FLEXQ_API void flexq_request_release(flexq_request* request);

typedef struct flexq_request_stats {
  uint32_t struct_size;
  int32_t finish_reason;
  int32_t n_prompt_tokens;
  int32_t n_reused_tokens;        /* of the prompt: taken over from other requests */
  int32_t n_generated_tokens;     /* an end token is not counted */
  int32_t n_preemptions;          /* how often its pages were given up and computed again */
  int64_t queued_ns;              /* from submit until it had a place */
  int64_t time_to_first_token_ns; /* from submit; 0: none yet */
  int64_t total_ns;               /* from submit to the end, or until now */
  double tokens_per_second;       /* after the first token; 0 before the second */
} flexq_request_stats;

FLEXQ_API flexq_status flexq_request_get_stats(const flexq_request* request,
                                               flexq_request_stats* stats);

/* The prompt's token ids. */
FLEXQ_API flexq_status flexq_request_prompt_tokens(const flexq_request* request, int32_t* tokens,
                                                   int32_t capacity, int32_t* n_tokens);

/* What an engine has done since it was created, and what it is doing. */
typedef struct flexq_engine_metrics {
  uint32_t struct_size;
  int32_t n_waiting; /* requests without a place */
  int32_t n_running; /* requests with one */
  int32_t pages_total;
  int32_t pages_used;   /* by requests */
  int32_t pages_cached; /* by nobody, kept for other requests */
  int64_t n_submitted;  /* requests that were accepted */
  int64_t n_finished;   /* of them: by an end token, a stop string, or the length */
  int64_t n_cancelled;
  int64_t n_deadline;
  int64_t n_failed;
  int64_t n_refused; /* QUEUE_FULL */
  int64_t n_preemptions;
  int64_t prompt_tokens;   /* of requests that had a place */
  int64_t reused_tokens;   /* of them: taken over */
  int64_t computed_tokens; /* by forward passes, recomputed ones included */
  int64_t generated_tokens;
  int64_t n_steps;
  int64_t step_ns; /* time in steps */
} flexq_engine_metrics;

FLEXQ_API flexq_status flexq_engine_get_metrics(const flexq_engine* engine,
                                                flexq_engine_metrics* metrics);

/* ---------------------------------------------------------------------------------------------
 * Building and checking bundles
 * ------------------------------------------------------------------------------------------- */

FLEXQ_API flexq_status flexq_quantize_options_create(flexq_quantize_options** options);
FLEXQ_API void flexq_quantize_options_release(flexq_quantize_options* options);

/* "flexq" (default: 6-bit weights and activations, down_proj activations 8 bits), "w6a6", "w6a8",
 * "w6a16" (activations not quantized), "w8a8", "w8a16", "fp16" (nothing quantized), "auto" (6-bit
 * weights; 6- or 8-bit activations chosen for every linear layer: needs a calibration text and
 * either a perplexity budget or a share of 8-bit work; for checkpoints only). Errors:
 * UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_quantize_options_set_policy(flexq_quantize_options* options,
                                                         const char* policy);
/* Rare options by name. Keys:
 *   "embedding_bits"  "16" (default: the checkpoint's own type), "8": one scale per row
 *   "lm_head_bits"    likewise; tied embeddings are one matrix, 8 in either place quantizes it
 *   "scale_search"    how weight scales are found: "none" (from the largest weight of a group),
 *                     "error" (least squared error of the group), "weighted" (the same, an input's
 *                     errors weighted by its mean square; needs a calibration text), "auto"
 *                     (default: "weighted" with a calibration text, "none" without)
 *   "equalization"    "on": channels of large inputs are divided by powers of two, and the weights
 *                     that read them multiplied, if that lowers the divergence of the quantized
 *                     model's logits on the calibration text, which it needs; before quantization
 *                     the model computes the same bits. For policies with 6-bit activations; not
 *                     under a perplexity budget, which is kept against the weights of w6a16.
 *                     "none": never. "auto" (default): "on" for policy "auto" under a share, which
 *                     then chooses on equalized channels, "none" otherwise
 *   "calibration_windows"  windows of 512 tokens that are taken from the calibration text, spread
 *                     evenly over it: "4" to "4096" (default "32")
 *   "force"           "1": where a perplexity budget cannot be met, writes the best there is
 *                     (default "0")
 * Errors: UNKNOWN_OPTION, UNSUPPORTED_VALUE. */
FLEXQ_API flexq_status flexq_quantize_options_set(flexq_quantize_options* options, const char* key,
                                                  const char* value);
/* A text like those that the model will see, UTF-8, copied. The unquantized model reads windows of
 * it, and for every linear layer it is measured what 6-bit activations cost there alone, for every
 * policy what it costs as a whole; the figures go into the bundle (see flexq_bundle_json). Time:
 * for n layers about 3.5 n (n + 1) passes of every window through one layer. Memory: one layer's
 * weights, again in fp32 where channels are equalized, and the activations of the text. Policy
 * "auto" chooses by these figures, every other policy keeps its bits. Not used by synthetic
 * models. */
FLEXQ_API flexq_status flexq_quantize_options_set_calibration(flexq_quantize_options* options,
                                                              const char* text, int64_t text_bytes);
/* Goal of "auto": the least 8-bit work with which the perplexity on the calibration text rises by
 * at most this part (0.001: a thousandth) over the same weights with unquantized activations. 0
 * takes the goal back. Errors: INVALID_ARGUMENT (outside [0, 1]). */
FLEXQ_API flexq_status flexq_quantize_options_set_perplexity_budget(flexq_quantize_options* options,
                                                                    double budget);
/* Goal of "auto": the least loss with at most this share, 0 to 1, of the linear layers'
 * multiply-accumulates on 8-bit activations; negative takes the goal back. Errors:
 * INVALID_ARGUMENT. */
FLEXQ_API flexq_status flexq_quantize_options_set_a8_fraction(flexq_quantize_options* options,
                                                              double fraction);
/* 0 (default): every processor. The bundle's bytes do not depend on it. */
FLEXQ_API flexq_status flexq_quantize_options_set_threads(flexq_quantize_options* options,
                                                          int32_t n_threads);
/* Progress in checkpoint bytes; with a calibration text in ten-thousandths of the expected work. */
FLEXQ_API flexq_status flexq_quantize_options_set_progress(flexq_quantize_options* options,
                                                           flexq_progress_callback callback,
                                                           void* user_data);

/* Turns a Hugging Face LLaMA checkpoint folder into a bundle. Streams: needs memory for a few
 * pieces of a tensor per thread, not for the model. The output appears under its name only when
 * complete; on any error what was there before is untouched. Errors: NOT_FOUND, IO, NO_SPACE,
 * CORRUPT, UNSUPPORTED_MODEL, NON_FINITE, INVALID_ARGUMENT (the output is a folder; a calibration
 * text that is empty, not UTF-8 or shorter than 4 windows; options that do not fit each other),
 * BUDGET_NOT_MET (the message says what was reached), CANCELLED. */
FLEXQ_API flexq_status flexq_quantize(const char* checkpoint_directory, const char* output_path,
                                      const flexq_quantize_options* options);

/* A bundle of random weights of a published shape (see flexq_source_synthetic), quantized from fp16
 * like a checkpoint. Errors as flexq_quantize. */
FLEXQ_API flexq_status flexq_quantize_synthetic(const char* shape, const char* output_path,
                                                const flexq_quantize_options* options);

/* An opened bundle: directory verified, weights not read. */
typedef struct flexq_bundle flexq_bundle;

FLEXQ_API flexq_status flexq_bundle_open(flexq_source* source, flexq_bundle** bundle);
FLEXQ_API void flexq_bundle_release(flexq_bundle* bundle);

/* What the bundle says, as one JSON object: format_version, signature (null, or algorithm and
 * key_id: see flexq_bundle_signer), architecture, quantization (policy, group_size, layers),
 * size_bytes, bits_per_weight (as stored), tokenizer, provenance. Where there was a calibration
 * text, provenance has "calibration" (what it was and what came out for every policy) and
 * "evidence" per linear layer: of 6-bit activations there alone "kl_a6" (divergence of the logits,
 * nats per token, by which "auto" chooses), "nll_rise_a6" (rise of the mean negative log
 * likelihood), "expected_rise_a6" (the same to expect over texts), "output_error_a6" (relative
 * squared error of the layer's output); "input_max" with the largest input of every group of 128;
 * and, where channels were equalized, "equalized_channels" (how many of the layer's inputs). */
FLEXQ_API flexq_status flexq_bundle_json(const flexq_bundle* bundle, char* text, int64_t capacity,
                                         int64_t* text_bytes);

/* Reads everything: hashes, padding, decompression, value ranges. progress (may be NULL) counts
 * stored bytes. n_threads as in flexq_model_options_set_threads. */
FLEXQ_API flexq_status flexq_bundle_verify(const flexq_bundle* bundle, int32_t n_threads,
                                           flexq_progress_callback progress, void* user_data);

/* Who signed the bundle: the public key as 64 hexadecimal digits; no bytes for an unsigned bundle.
 * Opening has checked that the signature fits this key, but anybody can sign with a key of his own:
 * whose it is, flexq_source_require_key checks. */
FLEXQ_API flexq_status flexq_bundle_signer(const flexq_bundle* bundle, char* text, int64_t capacity,
                                           int64_t* text_bytes);

/* Signs the bundle at `path`, or signs it again. pem: an ed25519 secret key as `openssl genpkey
 * -algorithm ed25519` writes it ("-----BEGIN PRIVATE KEY-----"); encrypted keys are refused. The
 * library keeps no copy of the key and overwrites what it used; no message contains any of it. All
 * of the bundle is checked first. The signed copy is written beside the file and replaces it when
 * complete, with the same permissions; on any error what was there is untouched. A bundle that is
 * open or loaded from the file stays usable. progress (may be NULL) counts stored bytes checked,
 * then bytes copied. n_threads as in flexq_model_options_set_threads. Errors: INVALID_ARGUMENT (the
 * key, or a folder), NOT_FOUND, IO, NO_SPACE, CANCELLED, OUT_OF_MEMORY, and those of
 * flexq_model_load for a bundle that would not load. */
FLEXQ_API flexq_status flexq_bundle_sign(const char* path, const char* pem, int64_t pem_bytes,
                                         int32_t n_threads, flexq_progress_callback progress,
                                         void* user_data);

/* ---------------------------------------------------------------------------------------------
 * Evaluation
 * ------------------------------------------------------------------------------------------- */

typedef struct flexq_perplexity_result {
  uint32_t struct_size;
  int32_t n_windows;
  int32_t window_tokens;
  int32_t reserved;
  int64_t n_tokens;  /* in the whole text, BOS included */
  double mean_nll;   /* over the window_tokens - 1 targets of every window, nats */
  double perplexity; /* exp(mean_nll) */
} flexq_perplexity_result;

/* After each window: its mean negative log likelihood. Non-zero cancels. */
typedef int32_t (*flexq_window_callback)(int32_t window, int32_t n_windows, double window_nll,
                                         void* user_data);

/* Perplexity of a text: tokenised whole with one BOS, cut into consecutive windows of window_tokens
 * (2 .. the model's context), tail dropped, each window from an empty cache. max_windows 0: all.
 * Of context_options (NULL: the defaults) the KV cache's type and the chunk size count; lengths and
 * sequences follow from the window. Errors: INVALID_ARGUMENT (a text shorter than one window),
 * NOT_FOUND (no tokenizer), CANCELLED, NON_FINITE, OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_evaluate_perplexity(const flexq_model* model,
                                                 const flexq_context_options* context_options,
                                                 const char* text, int64_t text_bytes,
                                                 int32_t window_tokens, int32_t max_windows,
                                                 flexq_window_callback callback, void* user_data,
                                                 flexq_perplexity_result* result);

/* --- continuations: how probable a model finds given texts --- */

/* Texts to score, as tokens: each a continuation behind its context. Reusable after
 * flexq_continuations_clear. */
typedef struct flexq_continuations flexq_continuations;

FLEXQ_API flexq_status flexq_continuations_create(flexq_continuations** continuations);
FLEXQ_API void flexq_continuations_release(flexq_continuations* continuations);

/* Forgets all texts. */
FLEXQ_API flexq_status flexq_continuations_clear(flexq_continuations* continuations);

/* Appends a text; the tokens are copied. n_context is 1 or more (BOS, if nothing else), as is
 * n_tokens. Errors: INVALID_ARGUMENT, OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_continuations_add(flexq_continuations* continuations,
                                               const int32_t* context_tokens, int32_t n_context,
                                               const int32_t* tokens, int32_t n_tokens);

/* scores[i] = ln p(tokens | context) of the i-th text, the sum over its tokens: (as many as were
 * added). Computes as many texts side by side as the context has sequences and free pages; what
 * texts added one after the other have in common at their beginning is computed once, where it is
 * half of the first one's context or more. Neither this nor the other texts change a score. All
 * sequences must be empty, and are empty afterwards. progress (may be NULL) counts tokens.
 * Errors: INVALID_ARGUMENT (a token outside the vocabulary), INVALID_STATE (a sequence that is not
 * empty), CONTEXT_FULL (a text that without its last token is longer than the context length or the
 * KV cache), CANCELLED, NON_FINITE. */
FLEXQ_API flexq_status flexq_context_score_continuations(flexq_context* context,
                                                         const flexq_continuations* continuations,
                                                         double* scores,
                                                         flexq_progress_callback progress,
                                                         void* user_data);

/* --- multiple choice --- */

/* Questions with two or more choices of which one is right. Immutable. */
typedef struct flexq_questions flexq_questions;

/* Reads the questions of a published task. task: "piqa", "arc" (easy and challenge), "boolq",
 * "winogrande" (one JSON object a line, as published), "hellaswag" (six lines of text a question:
 * context, index of the right ending, four endings). Errors: UNSUPPORTED_VALUE (task), NOT_FOUND,
 * IO, CORRUPT (the message names the file, the line, what was expected and what was found),
 * LIMIT_EXCEEDED (over 2^28 bytes). */
FLEXQ_API flexq_status flexq_questions_open(const char* task, const char* path,
                                            flexq_questions** questions);
FLEXQ_API void flexq_questions_release(flexq_questions* questions);

FLEXQ_API int32_t flexq_questions_count(const flexq_questions* questions);

typedef struct flexq_question_result {
  uint32_t struct_size;
  int32_t question; /* its index */
  int32_t n_questions;
  int32_t n_choices;
  int32_t answer;    /* the right choice */
  int32_t best;      /* the choice of the highest score, the first among equals */
  int32_t best_norm; /* the choice of the highest score per character of its text */
  int32_t reserved;
  const double* scores; /* (n_choices) ln p of each choice; valid during the callback */
} flexq_question_result;

/* Once for every question, in their order. Non-zero cancels. */
typedef int32_t (*flexq_question_callback)(const flexq_question_result* result, void* user_data);

typedef struct flexq_choice_result {
  uint32_t struct_size;
  int32_t n_questions;
  int32_t n_correct;      /* best == answer */
  int32_t n_correct_norm; /* best_norm == answer */
  double accuracy;        /* n_correct / n_questions */
  double accuracy_norm;
} flexq_choice_result;

/* Accuracy on the first max_questions questions (0: all), scored as in the lm-evaluation-harness:
 * the question in the task's template is the context, each choice a continuation; both are encoded
 * as one text with BOS where the model wants one, and cut on the left to what the model was trained
 * for. batch_size: continuations computed side by side (0: 64); no result depends on it. Of
 * context_options (NULL: the defaults) the KV cache's type and the chunk size count; the cache has
 * room for 4,096 tokens or one text. progress counts tokens; it and on_question may be NULL.
 * Errors: INVALID_ARGUMENT, NOT_FOUND (no tokenizer), CANCELLED, NON_FINITE, OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_evaluate_choices(const flexq_model* model,
                                              const flexq_context_options* context_options,
                                              const flexq_questions* questions, int32_t batch_size,
                                              int32_t max_questions,
                                              flexq_progress_callback progress,
                                              flexq_question_callback on_question, void* user_data,
                                              flexq_choice_result* result);

/* --- two models on one text --- */

typedef struct flexq_comparison_result {
  uint32_t struct_size;
  int32_t n_windows;
  int32_t window_tokens;
  int32_t reserved;
  int64_t n_tokens;    /* in the whole text, BOS included */
  int64_t n_positions; /* compared: window_tokens - 1 in every window */
  int64_t n_same_top1; /* positions where both models find the same token most probable */
  int64_t n_lost;      /* of the others: where A names the text's next token and B does not */
  int64_t n_gained;    /* of the others: where B names it and A does not */
  double mean_nll_a;   /* nats per position */
  double mean_nll_b;
  double perplexity_a; /* exp(mean_nll_a) */
  double perplexity_b;
  double mean_kl; /* mean over positions of KL(A || B) = sum of p_A ln(p_A / p_B), nats */
} flexq_comparison_result;

/* What differs between model_a, the reference, and model_b (quantized, say) on a text, cut into
 * windows as by flexq_evaluate_perplexity. The models may be on different devices. progress (may be
 * NULL) counts positions. Errors: INVALID_ARGUMENT (a text shorter than one window; models whose
 * vocabularies differ, or which encode the text differently), NOT_FOUND (no tokenizer), CANCELLED,
 * NON_FINITE, OUT_OF_MEMORY. */
FLEXQ_API flexq_status flexq_evaluate_comparison(const flexq_model* model_a,
                                                 const flexq_model* model_b,
                                                 const flexq_context_options* context_options,
                                                 const char* text, int64_t text_bytes,
                                                 int32_t window_tokens, int32_t max_windows,
                                                 flexq_progress_callback progress, void* user_data,
                                                 flexq_comparison_result* result);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FLEXQ_H */
