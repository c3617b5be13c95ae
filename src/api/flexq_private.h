/* flexq_private.h - what the flexq tool's kernel benchmark needs and nobody else should use. No
 * promise of stability: symbol version FLEXQ_PRIVATE. */
#ifndef FLEXQ_PRIVATE_H
#define FLEXQ_PRIVATE_H

#include "flexq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One linear layer of a shape, measured. */
typedef struct flexq_kernel_time {
  uint32_t struct_size;
  int32_t activation_bits;
  int64_t rows;
  int64_t cols;
  int32_t n_tokens;
  int32_t n_threads;
  int64_t weight_bytes;
  double microseconds;      /* one call over the whole matrix, weights not in any cache */
  double read_microseconds; /* the floor: on the CPU the same bytes only read, by the same threads
                               in the same run; on other devices the bytes over the speed of a copy
                               inside the device's memory, reads and writes counted */
  char layer[32];           /* "q_proj", ..., "lm_head" */
  char format[16];          /* "int6", "int8", "f16" */
  char kernels[32];
} flexq_kernel_time;

/* Non-zero stops. */
typedef int32_t (*flexq_kernel_time_callback)(const flexq_kernel_time* time, void* user_data);

/* Measures every linear layer of a published shape under a policy for each count of tokens. Calls
 * visit copies of the matrix that take working_set_bytes together, two copies at least. NULL
 * strings and options and 0 bytes mean the defaults; of the options device, kernel sets and threads
 * count. */
FLEXQ_API flexq_status flexq_private_benchmark_kernels(
    const char* shape, const char* policy, const flexq_model_options* options,
    const int32_t* n_tokens, int32_t n_token_counts, int32_t repeats, int64_t working_set_bytes,
    flexq_kernel_time_callback callback, void* user_data);

/* Bytes per second that a device reads and writes when it copies inside its memory: "cuda:0". */
FLEXQ_API flexq_status flexq_private_copy_speed(const char* device, double* bytes_per_second);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FLEXQ_PRIVATE_H */
