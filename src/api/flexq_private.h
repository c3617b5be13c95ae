/* flexq_private.h - what the flexq tool's benchmarks need and nobody else should use. No promise of
 * stability: symbol version FLEXQ_PRIVATE. */
#ifndef FLEXQ_PRIVATE_H
#define FLEXQ_PRIVATE_H

#include "flexq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A device opened for measurements of single linear layers, and how fast its memory is read. One
 * thread at a time. */
typedef struct flexq_kernel_benchmark flexq_kernel_benchmark;

/* Products of other libraries that a layer is compared with: in this order everywhere. */
#define FLEXQ_KERNEL_BASELINES 4
FLEXQ_API const char* flexq_private_baseline_name(int32_t index); /* "fp16", "int8", ... */

/* What the times are taken on. */
typedef struct flexq_kernel_machine {
  uint32_t struct_size;
  int32_t n_threads;
  double read_bandwidth; /* bytes per second: 1 GiB, the best of several passes */
  double int8_rate;      /* operations per second of tensor cores, two per product; 0: not known */
  double fp16_rate;
  char device[32];
  char name[128]; /* the processor's */
  char kernels[32];
  char baseline_library[64]; /* "cuBLASLt 13.1.0"; "": none */
  char no_baselines[512];    /* why there is none, where some were asked for */
} flexq_kernel_machine;

/* The matrices to time: of a published shape, or one of rows x cols where rows is not 0. Calls
 * visit copies of a matrix that take working_set_bytes together, two copies at least; 0: more than
 * caches hold. */
typedef struct flexq_kernel_request {
  uint32_t struct_size;
  int32_t repeats; /* 1 or more; the median counts */
  const char* shape;
  const char* policy;
  int64_t rows;
  int64_t cols;
  const int32_t* n_tokens;
  int32_t n_token_counts;
  int32_t tune; /* 1: every configuration of the kernels instead of the baselines */
  int64_t working_set_bytes;
} flexq_kernel_request;

/* One linear layer, measured. Times are of one call over the whole matrix, weights not in a cache.
 */
typedef struct flexq_kernel_time {
  uint32_t struct_size;
  int32_t activation_bits;
  int64_t rows;
  int64_t cols;
  int32_t n_tokens;
  int32_t chosen; /* tuning: 1 for the configuration that FlexQ takes by itself */
  int64_t weight_bytes;
  double microseconds;
  double floor_microseconds; /* weight_bytes at the machine's read_bandwidth */
  double read_microseconds;  /* a kernel that only reads these bytes, in the same way */
  double baseline_microseconds[FLEXQ_KERNEL_BASELINES]; /* 0: not measured */
  char layer[96];  /* "q_proj,o_proj": layers that are alike are measured once */
  char format[16]; /* "int6", "int8", "f16" */
  char kernels[32];
  char configuration[64]; /* tuning: its name, "" where there is no choice */
} flexq_kernel_time;

/* done of total pairs of a matrix and a number of tokens are measured. Non-zero stops. */
typedef int32_t (*flexq_kernel_time_callback)(const flexq_kernel_time* time, int64_t done,
                                              int64_t total, void* user_data);

/* Of the options (NULL: the defaults) device, kernel sets and threads count. baselines: "all",
 * "none" or names separated by commas. */
FLEXQ_API flexq_status flexq_private_kernel_benchmark_create(const flexq_model_options* options,
                                                             const char* baselines,
                                                             flexq_kernel_benchmark** benchmark);
FLEXQ_API void flexq_private_kernel_benchmark_release(flexq_kernel_benchmark* benchmark);
FLEXQ_API flexq_status flexq_private_kernel_benchmark_machine(
    const flexq_kernel_benchmark* benchmark, flexq_kernel_machine* machine);
FLEXQ_API flexq_status flexq_private_kernel_benchmark_run(flexq_kernel_benchmark* benchmark,
                                                          const flexq_kernel_request* request,
                                                          flexq_kernel_time_callback callback,
                                                          void* user_data);

/* How a model was loaded: seconds of all its threads together. */
typedef struct flexq_load_times {
  uint32_t struct_size;
  int32_t n_threads;
  double read_seconds;   /* from the file */
  double hash_seconds;   /* SHA-256 of what is stored */
  double decode_seconds; /* zstd */
  double check_seconds;  /* of every value */
  double store_seconds;  /* into the layout of the kernels, and to the device */
} flexq_load_times;
FLEXQ_API flexq_status flexq_private_load_times(const flexq_model* model, flexq_load_times* times);

/* Stored bytes per second of one thread that only hashes or decodes a chunk of this bundle in its
 * cache, while all others do the same; bytes per second that all write to fresh memory, as much as
 * the weights take on the CPU (half of what is free at most), the better of two times and the
 * first. Memory is measured last. */
typedef struct flexq_load_floor {
  uint32_t struct_size;
  int32_t n_threads;
  double hash_rate;
  double decode_rate; /* 0: the bundle is not compressed */
  double fresh_memory_rate;
  double first_touch_rate;
} flexq_load_floor;
/* n_threads: 0 for every processor. */
FLEXQ_API flexq_status flexq_private_load_floor(const flexq_bundle* bundle, int32_t n_threads,
                                                flexq_load_floor* floor);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FLEXQ_PRIVATE_H */
