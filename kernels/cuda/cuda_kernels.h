// The CUDA kernels as the device sees them: plain functions that queue work on a stream and return
// the launch's error. Pointers are device memory unless a comment says host. n_tokens >= 1.
//
// Quantized activations are rows of int8 codes, (n_tokens, K padded to 128), zero past K, with one
// fp32 scale per token and group: exactly the CPU's numbers (IEEE division, round half to even).
// They lie in memory as codes_order() of the product says.
//
// Order of sums: the groups of a matrix are cut into k_slices(N, K) slices of consecutive groups;
// inside a slice acc = fma((float)dot, sx * sw, acc) in ascending groups from 0, and the slices are
// added in ascending order, then the bias. Every integer kernel of both families keeps it, for any
// number of tokens, so that they give the same bits. k_slices is 1 for every shape
// (linear_select.h): the order is the CPU's.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/cuda_family.h"
#include "kernels/cuda/cuda_runtime.h"
#include "kernels/cuda/linear_select.h"
#include "kernels/layout/weight_format.h"

namespace flexq {

// Columns of dense matrices in device memory: rows start on 16 bytes and end in zeros.
constexpr int64_t cuda_padded_cols(int64_t n_cols) {
  return (n_cols + 63) / 64 * 64;
}

struct CudaMatrix {
  WeightFormat format = WeightFormat::kF16;
  CudaFamily family = CudaFamily::kInt8;  // of grouped formats
  int64_t rows = 0;                       // N
  int64_t cols = 0;                       // K
  const uint8_t* values = nullptr;        // packed codes; (N, cuda_padded_cols(K)) dense or int8
  const uint8_t* scales = nullptr;        // packed fp16; (N) fp32 of kInt8Row
  float scale_multiplier = 1.0f;
};

// fp32 rows in device memory, `stride` floats apart.
struct CudaRows {
  float* data = nullptr;
  int64_t stride = 0;
};

struct CudaQuantized {
  int8_t* codes = nullptr;  // (n_tokens, G * 128)
  float* scales = nullptr;  // (n_tokens, G) or (G, n_tokens)
  CodesOrder order = CodesOrder::kNatural;
};

// One matrix of a joint product, and where its outputs go.
struct CudaLinearPart {
  CudaMatrix w;
  const float* bias = nullptr;  // (N) or null
  CudaRows out;                 // (n_tokens, N)
};

// One row that a linear layer normalizes and quantizes itself; starts on 16 bytes.
struct CudaSource {
  const float* row = nullptr;   // (K)
  const float* norm = nullptr;  // (K), 16-byte aligned: rms_norm(row) times this; null: as it is
  float eps = 0;                // of the norm
};

// --- activations (activation_kernels.cu) ---------------------------------------------------------

// x[t] = embedding[tokens[t]], (n_tokens, n_embd).
cudaError_t cuda_embed(const CudaLaunch& launch, const CudaMatrix& embedding, const int32_t* tokens,
                       int64_t n_tokens, CudaRows x);

// Row i of out = rms_norm of row rows[i] of x (or row i where `rows` is null), times `weight` (n).
// The mean square is summed in a fixed order. nonfinite, (n_rows) or null: becomes 1 where a row of
// `out` holds NaN or infinity, and stays as it is elsewhere; may be pinned host memory.
cudaError_t cuda_rms_norm(const CudaLaunch& launch, CudaRows x, const int32_t* rows,
                          const float* weight, int64_t n, float eps, int64_t n_rows, CudaRows out,
                          int32_t* nonfinite);
// The same, quantized to bits = 6 or 8 straight from fp32.
cudaError_t cuda_rms_norm_quantize(const CudaLaunch& launch, CudaRows x, const float* weight,
                                   int64_t n, float eps, int32_t bits, int64_t n_tokens,
                                   CudaQuantized out);
// Quantizes rows of n floats as they are.
cudaError_t cuda_quantize(const CudaLaunch& launch, CudaRows x, int64_t n, int32_t bits,
                          int64_t n_tokens, CudaQuantized out);
// gate = silu(gate) * up, in place.
cudaError_t cuda_silu_mul(const CudaLaunch& launch, CudaRows gate, CudaRows up, int64_t n,
                          int64_t n_tokens);
// The same, quantized; gate and up are left as they are.
cudaError_t cuda_silu_mul_quantize(const CudaLaunch& launch, CudaRows gate, CudaRows up, int64_t n,
                                   int32_t bits, int64_t n_tokens, CudaQuantized out);

// --- linear layers -------------------------------------------------------------------------------

// Slices of the groups of a quantized (N, K) matrix: a function of the shape alone.
int32_t cuda_k_slices(int64_t n_rows, int64_t n_cols);

inline constexpr int32_t kMaxLinearParts = 3;

// What linear_select.h asks of a joint product.
inline LinearProblem linear_problem(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                                    int64_t n_tokens, CudaStore store) {
  const CudaMatrix& first = parts.front().w;
  int64_t n_rows = 0;
  for (const CudaLinearPart& part : parts)
    n_rows += part.w.rows;
  return {.sm = launch.sm,
          .n_sms = launch.n_sms,
          .family = first.family,
          .weight_bits = weight_bits(first.format),
          .n_rows = n_rows,
          .n_cols = first.cols,
          .n_tokens = n_tokens,
          .gated = store == CudaStore::kSiluMul};
}

// W6A6, W6A8, W8A8: 1 to kMaxLinearParts matrices of one K, format and family times the same
// quantized activations, which are in codes_order() of linear_problem(). kSiluMul takes two
// matrices of one shape. `scratch` has the cuda_linear_int_scratch_bytes() of the largest part.
// bits: those of the activations. (int_linear.cu)
cudaError_t cuda_linear_int(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                            CudaQuantized x, int32_t bits, int64_t n_tokens, CudaStore store,
                            uint8_t* scratch);
// One matrix by a configuration of linear_configs.h, with kSet: for tuners. Not every configuration
// suits a product; others give wrong results or an error.
cudaError_t cuda_linear_int_with(const CudaLaunch& launch, const LinearConfig& config,
                                 const CudaLinearPart& part, CudaQuantized x, int32_t bits,
                                 int64_t n_tokens, uint8_t* scratch);
int64_t cuda_linear_int_scratch_bytes(int64_t n_rows, int64_t n_cols, int64_t n_tokens);

// The same for few tokens, as a link of a chain of overlapping launches (int8_linear_fused.cu).
// From a row that the kernel quantizes itself to `bits`, one token: fuses_quantization() of
// fused_linear_shape.h is true.
cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              const CudaSource& x, int32_t bits, CudaStore store);
// From quantized activations in natural order: fuses_linear() is true.
cudaError_t cuda_linear_fused(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              const CudaQuantized& x, int64_t n_tokens, CudaStore store);

// Any format with fp32 activations: products in TF32 on tensor cores (weights of 6, 8 bits, fp16
// and bf16 enter exactly or rounded to 11 bits), sums in fp32 in an order that depends on (N, K)
// only. nonfinite: (n_tokens) or null, as for cuda_rms_norm. (float_linear.cu)
cudaError_t cuda_linear_float(const CudaLaunch& launch, const CudaMatrix& w, CudaRows x,
                              int64_t n_tokens, const float* bias, CudaStore store, CudaRows out,
                              int32_t* nonfinite);

// --- attention (attention_kernels.cu) ------------------------------------------------------------

// One layer's view of the paged cache; see src/device/device.h for the pages.
struct CudaKv {
  uint8_t* pages = nullptr;  // the pool
  int64_t page_bytes = 0;
  int64_t layer_offset = 0;  // bytes from a page's start to this layer's K of head 0
  int64_t head_bytes = 0;    // one head's K (or V) in a page; V follows all heads of K
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t page_tokens = 16;
  bool int8 = false;                      // codes with fp16 scales behind them; else fp16
  const int32_t* block_tables = nullptr;  // (n_sequences, pages_per_sequence)
  int32_t pages_per_sequence = 0;
};

// The tokens of a pass, in device memory, (n_tokens) each.
struct CudaBatch {
  const int32_t* positions = nullptr;
  const int32_t* sequences =
      nullptr;                 // tokens of a sequence follow each other, ascending positions
  const float* cos = nullptr;  // (n_tokens, head_dim / 2)
  const float* sin = nullptr;
  int32_t n_tokens = 0;
  int32_t n_runs = 0;                   // stretches of tokens of one sequence
  const int32_t* run_begins = nullptr;  // (n_runs + 1)
  int32_t longest_run = 0;              // tokens
  int32_t n_first_singles = 0;          // runs of one token before the first longer one
  int32_t most_positions = 0;           // largest position + 1, or more
  int32_t* counters = nullptr;          // (n_runs, n_kv_heads), 0 between kernels
};

// Rotates q in place (halves, as Hugging Face does) and writes rotated k and v into the cache.
// q: (n_tokens, n_heads * head_dim), k and v: (n_tokens, n_kv_heads * head_dim).
cudaError_t cuda_rope_store(const CudaLaunch& launch, const CudaBatch& batch, const CudaKv& kv,
                            int32_t n_heads, CudaRows q, CudaRows k, CudaRows v);

// out = softmax(q k^T / sqrt(head_dim)) v over positions 0 .. positions[t] of the token's sequence.
// The KV length is cut into pieces of a fixed number of tokens; a row's result depends on its own
// position only, in decode and in prefill. scratch: cuda_attention_scratch_bytes().
cudaError_t cuda_attention(const CudaLaunch& launch, const CudaBatch& batch, const CudaKv& kv,
                           int32_t n_heads, CudaRows q, CudaRows out, uint8_t* scratch);
// cuda_rope_store and cuda_attention in one launch, for one token of each sequence; q is left as it
// is. fuses_attention() of attention_decode_shape.h is true. (attention_decode.cu)
cudaError_t cuda_decode_attention(const CudaLaunch& launch, const CudaBatch& batch,
                                  const CudaKv& kv, int32_t n_heads, CudaRows q, CudaRows k,
                                  CudaRows v, CudaRows out, uint8_t* scratch);
int64_t cuda_attention_scratch_bytes(int32_t n_heads, int32_t head_dim, int64_t n_tokens,
                                     int64_t context_tokens);

// --- sampling (sampling_kernels.cu) --------------------------------------------------------------

struct CudaRowsOfWidth {
  CudaRows rows;
  int64_t width = 0;
};
inline constexpr size_t kMostSearched = 2;
// flags[s, i] = 1 where row i of the s-th of `searched`, 1 to kMostSearched times n_rows rows,
// holds NaN or infinity, else 0. `flags` may be pinned host memory.
cudaError_t cuda_find_nonfinite(const CudaLaunch& launch, std::span<const CudaRowsOfWidth> searched,
                                int64_t n_rows, int32_t* flags);
// log_probs[i] = ln softmax(logits[i])[tokens[i]], (n_rows).
cudaError_t cuda_log_probs(const CudaLaunch& launch, CudaRows logits, int64_t n_vocab,
                           const int32_t* tokens, int64_t n_rows, float* log_probs);

// The stages of src/runtime/sampler.h that run on the device: temperature, top-k, top-p, min-p.
struct CudaSampling {
  int32_t row = 0;        // of the logits
  float temperature = 0;  // 0: greedy
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float uniform = 0;  // the counter-based random number of this position
};
struct CudaSample {
  int32_t token;
  float log_prob;     // under the untouched logits
  int32_t nonfinite;  // 1: NaN or +infinity was there, the token means nothing
};
// Rows that one call samples, at most.
inline constexpr int32_t kMaxSampleRows = 16;
// samples[i] = a token from the row of logits (..., n_vocab) that samplings[i] names. Same tokens
// as the host sampler given the same logits. scratch: cuda_sample_scratch_bytes().
cudaError_t cuda_sample(const CudaLaunch& launch, CudaRows logits, int64_t n_vocab,
                        std::span<const CudaSampling> samplings, CudaSample* samples,
                        uint8_t* scratch);
int64_t cuda_sample_scratch_bytes(int64_t n_vocab, int64_t n_rows);

// --- packing (packing_kernels.cu) ----------------------------------------------------------------

// Packs rows [row_begin, row_begin + n_rows), row_begin a multiple of 16, of a grouped matrix.
// codes: (n_rows, K) int8; scales: (n_rows, G) fp16; both in device memory.
cudaError_t cuda_pack_rows(const CudaLaunch& launch, WeightFormat format, CudaFamily family,
                           const int8_t* codes, const uint16_t* scales, int64_t row_begin,
                           int64_t n_rows, int64_t N, int64_t K, uint8_t* packed_codes,
                           uint8_t* packed_scales);

}  // namespace flexq
