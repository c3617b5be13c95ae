// The paged cache and attention: rotary embedding and storage against the CPU's kernels bit for
// bit, attention against sums in double, and its promise that a row's bits depend on its position
// only, however a sequence is cut into passes.
#include <algorithm>
#include <numeric>

#include "cuda/float_test_support.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cuda/attention_decode_shape.h"

namespace flexq {
namespace {

using test::DeviceArray;
using test::Normals;

constexpr int64_t kPageTokens = 16;
constexpr int64_t kLayers = 2;
constexpr int64_t kLayer = 1;

struct Shape {
  int32_t n_heads;
  int32_t n_kv_heads;
  int32_t head_dim;
  bool int8;
};

// Tokens of one pass: stretches of positions of some sequences.
struct Stretch {
  int32_t sequence;
  int32_t begin;  // positions
  int32_t end;
};

// q, k and v of every position of some sequences, a device cache for them with shuffled pages, and
// what the cache should hold.
class Sequences {
 public:
  Sequences(const Shape& shape, std::vector<int32_t> lengths, uint64_t seed)
      : shape_(shape),
        lengths_(std::move(lengths)),
        random_(seed),
        head_bytes_(kPageTokens * (shape.head_dim * (shape.int8 ? 1 : 2) + (shape.int8 ? 2 : 0))),
        page_bytes_(kLayers * 2 * shape.n_kv_heads * head_bytes_) {
    starts_.push_back(0);
    for (const int32_t length : lengths_)
      starts_.push_back(starts_.back() + length);
    longest_ = *std::max_element(lengths_.begin(), lengths_.end());
    pages_per_sequence_ = (longest_ + kPageTokens - 1) / kPageTokens + 1;
    const int64_t n = starts_.back();
    q_ = random_.vector(n * q_width());
    k_ = random_.vector(n * kv_width());
    v_ = random_.vector(n * kv_width());
    angles(n);

    std::vector<int32_t> pages(static_cast<size_t>(n_sequences() * pages_per_sequence_));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), random_.engine());
    tables_ = pages;
    pool_ =
        std::make_unique<DeviceArray<uint8_t>>(static_cast<int64_t>(pages.size()) * page_bytes_);
    device_tables_ = std::make_unique<DeviceArray<int32_t>>(tables_);
    make_expected();
  }

  int64_t n_sequences() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t q_width() const { return int64_t{shape_.n_heads} * shape_.head_dim; }
  int64_t kv_width() const { return int64_t{shape_.n_kv_heads} * shape_.head_dim; }
  int64_t n_tokens() const { return starts_.back(); }
  int64_t row_of(int32_t sequence, int32_t position) const {
    return starts_[static_cast<size_t>(sequence)] + position;
  }
  const std::vector<int32_t>& lengths() const { return lengths_; }
  void forget() { pool_->poison(); }

  // From now on passes of one token per sequence are one launch where that is possible.
  void decode_at_once(bool at_once) { at_once_ = at_once; }
  // Stores the stretches' keys and values, attends, and puts the rows where they belong in `out`
  // (n_tokens(), q_width()).
  void pass(const CudaLaunch& launch, const std::vector<Stretch>& stretches,
            std::vector<float>& out) {
    std::vector<int64_t> rows;
    std::vector<int32_t> positions;
    std::vector<int32_t> sequences;
    std::vector<int32_t> begins = {0};
    CudaBatch batch;
    for (const Stretch& stretch : stretches) {
      for (int32_t p = stretch.begin; p < stretch.end; ++p) {
        rows.push_back(row_of(stretch.sequence, p));
        positions.push_back(p);
        sequences.push_back(stretch.sequence);
      }
      begins.push_back(static_cast<int32_t>(rows.size()));
      batch.longest_run = std::max(batch.longest_run, stretch.end - stretch.begin);
      if (batch.longest_run == 1) ++batch.n_first_singles;
      batch.most_positions = std::max(batch.most_positions, stretch.end);
    }
    const auto n = static_cast<int64_t>(rows.size());
    const int64_t half = shape_.head_dim / 2;
    // A stride of its own, to see that it is used.
    const int64_t stride = q_width() + 2;
    DeviceArray<float> q(gather(q_, rows, q_width(), stride));
    DeviceArray<float> k(gather(k_, rows, kv_width(), kv_width()));
    DeviceArray<float> v(gather(v_, rows, kv_width(), kv_width()));
    DeviceArray<float> cos(gather(cos_, rows, half, half));
    DeviceArray<float> sin(gather(sin_, rows, half, half));
    DeviceArray<int32_t> device_positions(positions);
    DeviceArray<int32_t> device_sequences(sequences);
    DeviceArray<int32_t> device_begins(begins);
    DeviceArray<float> device_out(n * stride);
    DeviceArray<uint8_t> scratch(cuda_attention_scratch_bytes(shape_.n_heads, shape_.head_dim, n,
                                                              pages_per_sequence_ * kPageTokens));
    batch.positions = device_positions.data();
    batch.sequences = device_sequences.data();
    batch.cos = cos.data();
    batch.sin = sin.data();
    batch.n_tokens = static_cast<int32_t>(n);
    batch.n_runs = static_cast<int32_t>(stretches.size());
    batch.run_begins = device_begins.data();
    DeviceArray<int32_t> counters(
        std::vector<int32_t>(stretches.size() * static_cast<size_t>(shape_.n_kv_heads), 0));
    batch.counters = counters.data();
    const CudaKv kv = view();
    if (at_once_ && batch.longest_run == 1 &&
        fuses_attention(launch.sm, n, shape_.n_heads, shape_.n_kv_heads, shape_.head_dim)) {
      // Launched for more positions than there are, as graphs are.
      batch.most_positions = std::min(batch.most_positions * 2,
                                      static_cast<int32_t>(pages_per_sequence_ * kPageTokens));
      const cudaError_t error = cuda_decode_attention(
          launch, batch, kv, shape_.n_heads, {q.data(), stride}, {k.data(), kv_width()},
          {v.data(), kv_width()}, {device_out.data(), stride}, scratch.data());
      REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
      for (const int32_t counter : counters.download())
        REQUIRE(counter == 0);
      scatter(device_out.download(), rows, stride, out);
      return;
    }
    cudaError_t error = cuda_rope_store(launch, batch, kv, shape_.n_heads, {q.data(), stride},
                                        {k.data(), kv_width()}, {v.data(), kv_width()});
    REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
    error = cuda_attention(launch, batch, kv, shape_.n_heads, {q.data(), stride},
                           {device_out.data(), stride}, scratch.data());
    REQUIRE_MESSAGE(error == cudaSuccess, cudaGetErrorString(error));
    check_rotated(q.download(), rows, stride);
    scatter(device_out.download(), rows, stride, out);
  }

  // Every stored key and value, and nothing else in the pool, against what the CPU stores.
  void check_cache() {
    const std::vector<uint8_t> found = pool_->download();
    for (size_t i = 0; i < found.size(); ++i) {
      if (found[i] != expected_pool_[i]) {
        const auto at = static_cast<int64_t>(i);
        FAIL("page " << at / page_bytes_ << " head " << at % page_bytes_ / head_bytes_ << " byte "
                     << at % head_bytes_ << ": found " << static_cast<int>(found[i])
                     << ", expected " << static_cast<int>(expected_pool_[i]));
      }
    }
  }

  // One row against sums in double over what the cache should hold.
  void check_row(const std::vector<float>& out, int32_t sequence, int32_t position,
                 int32_t head) const {
    const int32_t dim = shape_.head_dim;
    const int32_t kv_head = head / (shape_.n_heads / shape_.n_kv_heads);
    const int64_t row = row_of(sequence, position);
    const float* q = &rotated_q_[static_cast<size_t>(row * q_width() + int64_t{head} * dim)];
    // q is rounded to fp16 (2^-11 of its size); so are int8 keys and values once dequantized, with
    // 2^-25 more below fp16's normal range. Sums of fp32 products: 2^-20 is plenty.
    const double input = (shape_.int8 ? 2 : 1) * 0x1.01p-11 + 0x1p-20;
    std::vector<double> scores;
    double worst = 0;
    for (int32_t p = 0; p <= position; ++p) {
      const double* k = cached(k_stored_, sequence, p, kv_head);
      double sum = 0;
      double magnitude = 0;
      for (int32_t d = 0; d < dim; ++d) {
        sum += q[d] * k[d];
        magnitude += std::fabs(q[d] * k[d]) * input + std::fabs(q[d]) * 0x1p-25;
      }
      scores.push_back(sum / std::sqrt(dim));
      worst = std::max(worst, magnitude / std::sqrt(dim));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) {
      score = std::exp(score - largest);
      total += score;
    }
    for (int32_t d = 0; d < dim; ++d) {
      double sum = 0;
      double magnitude = 0;
      double v_largest = 0;
      for (int32_t p = 0; p <= position; ++p) {
        const double v = cached(v_stored_, sequence, p, kv_head)[d];
        sum += scores[static_cast<size_t>(p)] * v;
        magnitude += scores[static_cast<size_t>(p)] * std::fabs(v);
        v_largest = std::max(v_largest, std::fabs(v));
      }
      const double expected = sum / total;
      // Scores off by `worst` change every weight by that much relative to the others; p is rounded
      // to fp16 (2^-11, or 2^-25 of the largest where it is subnormal).
      const double bound = magnitude / total * (2 * worst + 2 * 0x1.01p-11 + input + 0x1p-18) +
                           (position + 1) * 0x1p-25 * v_largest / total + 0x1p-24;
      const float found = out[static_cast<size_t>(row * q_width() + int64_t{head} * dim + d)];
      if (!(std::fabs(found - expected) <= bound)) {
        FAIL("sequence " << sequence << " position " << position << " head " << head << " column "
                         << d << ": found " << found << ", expected " << expected << " within "
                         << bound);
      }
    }
  }

  void check_same_bits(const std::vector<float>& a, const std::vector<float>& b,
                       const char* what) const {
    for (int32_t s = 0; s < n_sequences(); ++s) {
      for (int32_t p = 0; p < lengths_[static_cast<size_t>(s)]; ++p) {
        for (int64_t i = 0; i < q_width(); ++i) {
          const auto at = static_cast<size_t>(row_of(s, p) * q_width() + i);
          if (std::bit_cast<uint32_t>(a[at]) != std::bit_cast<uint32_t>(b[at])) {
            FAIL(what << ": sequence " << s << " position " << p << " element " << i << ": "
                      << a[at] << " and " << b[at]);
          }
        }
      }
    }
  }

  std::vector<float> empty_output() const {
    return std::vector<float>(static_cast<size_t>(n_tokens() * q_width()),
                              std::numeric_limits<float>::quiet_NaN());
  }

 private:
  static std::vector<float> gather(const std::vector<float>& from, const std::vector<int64_t>& rows,
                                   int64_t width, int64_t stride) {
    std::vector<float> to(rows.size() * static_cast<size_t>(stride),
                          std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(&from[static_cast<size_t>(rows[i] * width)], width,
                  &to[i * static_cast<size_t>(stride)]);
    return to;
  }

  void scatter(const std::vector<float>& from, const std::vector<int64_t>& rows, int64_t stride,
               std::vector<float>& to) const {
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy_n(&from[i * static_cast<size_t>(stride)], q_width(),
                  &to[static_cast<size_t>(rows[i] * q_width())]);
  }

  void angles(int64_t n) {
    const int32_t half = shape_.head_dim / 2;
    for (int64_t t = 0; t < n; ++t) {
      for (int32_t i = 0; i < half; ++i) {
        const double angle = random_() * 3;
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }

  CudaKv view() {
    CudaKv kv;
    kv.pages = pool_->data();
    kv.page_bytes = page_bytes_;
    kv.layer_offset = kLayer * 2 * shape_.n_kv_heads * head_bytes_;
    kv.head_bytes = head_bytes_;
    kv.n_kv_heads = shape_.n_kv_heads;
    kv.head_dim = shape_.head_dim;
    kv.page_tokens = kPageTokens;
    kv.int8 = shape_.int8;
    kv.block_tables = device_tables_->data();
    kv.pages_per_sequence = static_cast<int32_t>(pages_per_sequence_);
    return kv;
  }

  const double* cached(const std::vector<double>& stored, int32_t sequence, int32_t position,
                       int32_t kv_head) const {
    return &stored[static_cast<size_t>(row_of(sequence, position) * kv_width() +
                                       int64_t{kv_head} * shape_.head_dim)];
  }

  // Rotates, stores and dequantizes every row with the CPU's kernels.
  void make_expected() {
    const CpuKernels& cpu = portable_kernels();
    const int32_t dim = shape_.head_dim;
    expected_pool_.assign(static_cast<size_t>(pool_->size()), 0xff);
    rotated_q_ = q_;
    std::vector<float> rotated_k = k_;
    k_stored_.resize(k_.size());
    v_stored_.resize(v_.size());
    for (int32_t s = 0; s < n_sequences(); ++s) {
      for (int32_t p = 0; p < lengths_[static_cast<size_t>(s)]; ++p) {
        const int64_t row = row_of(s, p);
        const float* cos = &cos_[static_cast<size_t>(row * (dim / 2))];
        const float* sin = &sin_[static_cast<size_t>(row * (dim / 2))];
        cpu.rope(&rotated_q_[static_cast<size_t>(row * q_width())], cos, sin, shape_.n_heads, dim);
        cpu.rope(&rotated_k[static_cast<size_t>(row * kv_width())], cos, sin, shape_.n_kv_heads,
                 dim);
        for (int32_t slot = 0; slot < 2 * shape_.n_kv_heads; ++slot) {
          const bool is_v = slot >= shape_.n_kv_heads;
          const int32_t kv_head = slot % shape_.n_kv_heads;
          const auto at = static_cast<size_t>(row * kv_width() + int64_t{kv_head} * dim);
          store(is_v ? &v_[at] : &rotated_k[at], s, p, slot,
                is_v ? &v_stored_[at] : &k_stored_[at]);
        }
      }
    }
  }

  void store(const float* x, int32_t sequence, int32_t position, int32_t slot, double* stored) {
    const CpuKernels& cpu = portable_kernels();
    const int32_t dim = shape_.head_dim;
    const int64_t page =
        tables_[static_cast<size_t>(sequence * pages_per_sequence_ + position / kPageTokens)];
    uint8_t* head = &expected_pool_[static_cast<size_t>(
        page * page_bytes_ + (kLayer * 2 * shape_.n_kv_heads + slot) * head_bytes_)];
    const int64_t in_page = position % kPageTokens;
    if (shape_.int8) {
      auto* codes = reinterpret_cast<int8_t*>(head + in_page * dim);
      uint16_t scale = 0;
      cpu.quantize_kv_row(x, dim, codes, &scale);
      std::memcpy(head + kPageTokens * dim + in_page * 2, &scale, 2);
      for (int32_t d = 0; d < dim; ++d)
        stored[d] = static_cast<double>(codes[d]) * half_to_float(scale);
    } else {
      for (int32_t d = 0; d < dim; ++d) {
        const uint16_t bits = float_to_half(x[d]);
        std::memcpy(head + (in_page * dim + d) * 2, &bits, 2);
        stored[d] = half_to_float(bits);
      }
    }
  }

  void check_rotated(const std::vector<float>& q, const std::vector<int64_t>& rows,
                     int64_t stride) const {
    for (size_t i = 0; i < rows.size(); ++i) {
      for (int64_t c = 0; c < q_width(); ++c) {
        const float found = q[i * static_cast<size_t>(stride) + static_cast<size_t>(c)];
        const float expected = rotated_q_[static_cast<size_t>(rows[i] * q_width() + c)];
        if (std::bit_cast<uint32_t>(found) != std::bit_cast<uint32_t>(expected))
          FAIL("q row " << rows[i] << " column " << c << ": found " << found << ", expected "
                        << expected);
      }
    }
  }

  Shape shape_;
  std::vector<int32_t> lengths_;
  Normals random_;
  int64_t head_bytes_;
  int64_t page_bytes_;
  std::vector<int64_t> starts_;  // (n_sequences + 1): rows
  int32_t longest_ = 0;
  int64_t pages_per_sequence_ = 0;
  std::vector<float> q_, k_, v_, cos_, sin_;  // (n_tokens, width)
  std::vector<float> rotated_q_;
  std::vector<double> k_stored_, v_stored_;  // (n_tokens, kv_width)
  std::vector<int32_t> tables_;
  std::unique_ptr<DeviceArray<int32_t>> device_tables_;
  std::unique_ptr<DeviceArray<uint8_t>> pool_;
  std::vector<uint8_t> expected_pool_;
  bool at_once_ = false;
};

constexpr Shape kShapes[] = {
    {4, 4, 8, false},  {4, 2, 8, true},    {6, 6, 16, false},  {4, 2, 20, false},
    {4, 2, 20, true},  {40, 2, 32, true},  {8, 2, 64, false},  {8, 2, 64, true},
    {6, 2, 80, false}, {6, 3, 96, true},   {8, 8, 128, false}, {8, 1, 128, false},
    {8, 2, 128, true}, {2, 1, 256, false}, {4, 1, 256, true},
};

void capture_shape(const Shape& shape) {
  MESSAGE("heads " << shape.n_heads << ", kv heads " << shape.n_kv_heads << ", head dim "
                   << shape.head_dim << (shape.int8 ? ", int8" : ", fp16"));
}

// All positions of every sequence in passes of `chunk` tokens of one sequence.
std::vector<float> in_chunks(const CudaLaunch& launch, Sequences& sequences, int32_t chunk) {
  sequences.forget();
  std::vector<float> out = sequences.empty_output();
  for (int32_t s = 0; s < sequences.n_sequences(); ++s) {
    const int32_t length = sequences.lengths()[static_cast<size_t>(s)];
    for (int32_t begin = 0; begin < length; begin += chunk)
      sequences.pass(launch, {{s, begin, std::min(begin + chunk, length)}}, out);
  }
  return out;
}

}  // namespace

TEST_CASE("attention: every shape against double, and any chunking gives the same bits") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  CudaLaunch small_shared = launch;
  small_shared.sm = 75;  // one warp per CTA where four do not fit 64 KiB
  uint64_t seed = 100;
  for (const Shape& shape : kShapes) {
    INFO("heads " << shape.n_heads << ", kv heads " << shape.n_kv_heads << ", head dim "
                  << shape.head_dim << (shape.int8 ? ", int8" : ", fp16"));
    Sequences sequences(shape, {700, 1, 333, 17}, seed++);
    const std::vector<float> whole = in_chunks(launch, sequences, 4096);
    sequences.check_cache();
    for (int32_t s = 0; s < sequences.n_sequences(); ++s) {
      const int32_t length = sequences.lengths()[static_cast<size_t>(s)];
      for (int32_t p = 0; p < length; p += p < 20 ? 1 : 23)
        for (int32_t head = 0; head < shape.n_heads; ++head)
          sequences.check_row(whole, s, p, head);
    }
    for (const int32_t chunk : {1, 5, 64, 65, 300}) {
      CAPTURE(chunk);
      sequences.check_same_bits(whole, in_chunks(launch, sequences, chunk), "chunks");
    }
    sequences.check_same_bits(whole, in_chunks(small_shared, sequences, 128), "one warp");
    sequences.decode_at_once(true);
    sequences.check_same_bits(whole, in_chunks(launch, sequences, 1), "decoded at once");
    sequences.check_cache();
  }
}

TEST_CASE("attention: sequences of one pass do not touch each other") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  for (const Shape& shape : {Shape{8, 2, 64, false}, {4, 4, 128, true}}) {
    Sequences sequences(shape, {1300, 40, 600, 257, 256}, 7);
    const std::vector<float> alone = in_chunks(launch, sequences, 1 << 20);
    // All together: first parts of different length, then steps of one token, then the rest.
    sequences.forget();
    std::vector<float> together = sequences.empty_output();
    sequences.pass(launch, {{0, 0, 1100}, {1, 0, 3}, {2, 0, 512}, {3, 0, 255}, {4, 0, 200}},
                   together);
    for (int32_t i = 0; i < 4; ++i) {
      sequences.pass(launch,
                     {{4, 200 + i, 201 + i},
                      {0, 1100 + i, 1101 + i},
                      {2, 512 + i, 513 + i},
                      {1, 3 + i, 4 + i}},
                     together);
    }
    // Single tokens before a prompt: enough of them to fill one processor, which is all there is.
    CudaLaunch one_processor = launch;
    one_processor.n_sms = 1;
    sequences.pass(one_processor, {{4, 204, 205}, {2, 516, 517}, {0, 1104, 1204}, {1, 7, 8}},
                   together);
    sequences.pass(launch,
                   {{3, 255, 257}, {0, 1204, 1300}, {1, 8, 40}, {2, 517, 600}, {4, 205, 256}},
                   together);
    sequences.check_same_bits(alone, together, "passes of several sequences");
    sequences.check_cache();
  }
}

TEST_CASE("attention: steps of several sequences at once, in one launch each") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  CudaLaunch few_processors = launch;  // a CTA for each sequence and KV head fills them
  few_processors.n_sms = 1;
  for (const Shape& shape : {Shape{8, 2, 64, false},
                             {4, 4, 128, true},
                             {16, 2, 128, false},
                             {16, 2, 128, true},
                             {2, 2, 20, false},
                             {2, 2, 20, true},
                             {3, 3, 16, true},
                             {4, 4, 256, false},
                             {8, 2, 256, true}}) {
    capture_shape(shape);
    const std::vector<int32_t> lengths = {1300, 40, 600, 257, 256, 1, 520, 2};
    Sequences sequences(shape, lengths, 17);
    const std::vector<float> alone = in_chunks(launch, sequences, 1 << 20);
    for (const CudaLaunch& where : {launch, few_processors}) {
      CAPTURE(where.n_sms);
      sequences.forget();
      sequences.decode_at_once(false);
      std::vector<float> together = sequences.empty_output();
      constexpr int32_t kSteps = 30;
      for (int32_t s = 0; s < sequences.n_sequences(); ++s) {
        const int32_t prefilled = std::max(lengths[static_cast<size_t>(s)] - kSteps, 0);
        if (prefilled > 0) sequences.pass(launch, {{s, 0, prefilled}}, together);
      }
      sequences.decode_at_once(true);
      for (int32_t step = 0; step < kSteps; ++step) {
        std::vector<Stretch> stretches;
        for (int32_t s = 0; s < sequences.n_sequences(); ++s) {
          const int32_t length = lengths[static_cast<size_t>(s)];
          const int32_t p = std::max(length - kSteps, 0) + step;
          if (p < length) stretches.push_back({s, p, p + 1});
        }
        sequences.pass(where, stretches, together);
      }
      sequences.check_same_bits(alone, together, "steps of several sequences");
      sequences.check_cache();
    }
  }
}

TEST_CASE("attention: long sequences") {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  for (const Shape& shape : {Shape{4, 2, 64, false}, {4, 4, 128, false}, {4, 1, 128, true}}) {
    capture_shape(shape);
    Sequences sequences(shape, {3000}, 8);
    const std::vector<float> whole = in_chunks(launch, sequences, 4096);
    for (const int32_t p : {0, 255, 256, 257, 1023, 1024, 2047, 2900, 2999})
      for (int32_t head = 0; head < shape.n_heads; ++head)
        sequences.check_row(whole, 0, p, head);
    for (const int32_t chunk : {60, 512})
      sequences.check_same_bits(whole, in_chunks(launch, sequences, chunk), "chunks");
    // Decoding of the last positions.
    std::vector<float> decoded = whole;
    for (int32_t p = 2990; p < 3000; ++p)
      sequences.pass(launch, {{0, p, p + 1}}, decoded);
    sequences.check_same_bits(whole, decoded, "decoding");
  }
}

// Run with --no-skip.
TEST_CASE("attention: timings" * doctest::skip()) {
  FLEXQ_REQUIRE_CUDA_DEVICE();
  const CudaLaunch launch = test::make_launch();
  struct Timed {
    int32_t n_heads, n_kv_heads, n_tokens, n_positions;
    bool int8;
  };
  constexpr int64_t kDim = 128;
  for (const Timed& timed : {Timed{32, 32, 1, 512, false},
                             {32, 32, 1, 4096, false},
                             {32, 32, 1, 512, true},
                             {32, 32, 1, 4096, true},
                             {32, 8, 1, 4096, false},
                             {32, 8, 1, 32768, false},
                             {32, 32, 512, 512, false},
                             {32, 32, 2048, 2048, false},
                             {32, 8, 2048, 2048, false},
                             {32, 32, 2048, 2048, true}}) {
    const int64_t head_bytes = kPageTokens * (timed.int8 ? kDim + 2 : kDim * 2);
    const int64_t kv_bytes = 2 * timed.n_kv_heads * head_bytes * (timed.n_positions / kPageTokens);
    // Decode: enough layers that none is in the L2 cache when its turn comes.
    const int64_t layers = timed.n_tokens > 1 ? 1 : (int64_t{300} << 20) / kv_bytes + 1;
    const int64_t page_bytes = 2 * timed.n_kv_heads * head_bytes * layers;
    const int64_t n_pages = timed.n_positions / kPageTokens;
    Normals random(9);
    DeviceArray<uint8_t> pool(n_pages * page_bytes);
    REQUIRE(cudaMemset(pool.data(), 0x2c, static_cast<size_t>(pool.size())) == cudaSuccess);
    std::vector<int32_t> table(static_cast<size_t>(n_pages));
    std::iota(table.begin(), table.end(), 0);
    std::shuffle(table.begin(), table.end(), random.engine());
    std::vector<int32_t> positions(static_cast<size_t>(timed.n_tokens));
    std::iota(positions.begin(), positions.end(), timed.n_positions - timed.n_tokens);
    DeviceArray<int32_t> device_table(table);
    DeviceArray<int32_t> device_positions(positions);
    DeviceArray<int32_t> sequences(std::vector<int32_t>(positions.size(), 0));
    DeviceArray<int32_t> begins(std::vector<int32_t>{0, timed.n_tokens});
    const int64_t width = timed.n_heads * kDim;
    DeviceArray<float> q(random.vector(timed.n_tokens * width));
    DeviceArray<float> out(timed.n_tokens * width);
    DeviceArray<uint8_t> scratch(cuda_attention_scratch_bytes(
        timed.n_heads, static_cast<int32_t>(kDim), timed.n_tokens, timed.n_positions));
    CudaBatch batch;
    batch.positions = device_positions.data();
    batch.sequences = sequences.data();
    batch.n_tokens = timed.n_tokens;
    batch.n_runs = 1;
    batch.run_begins = begins.data();
    batch.longest_run = timed.n_tokens;
    batch.most_positions = timed.n_positions;
    const double us = test::microseconds(timed.n_tokens > 1 ? 10 : 40, [&](int i) {
      CudaKv kv;
      kv.pages = pool.data();
      kv.page_bytes = page_bytes;
      kv.layer_offset = i % layers * 2 * timed.n_kv_heads * head_bytes;
      kv.head_bytes = head_bytes;
      kv.n_kv_heads = timed.n_kv_heads;
      kv.head_dim = static_cast<int32_t>(kDim);
      kv.int8 = timed.int8;
      kv.block_tables = device_table.data();
      kv.pages_per_sequence = static_cast<int32_t>(n_pages);
      return cuda_attention(launch, batch, kv, timed.n_heads, {q.data(), width},
                            {out.data(), width}, scratch.data());
    });
    const double flops = 4.0 * static_cast<double>(kDim) * timed.n_heads * timed.n_tokens *
                         (timed.n_positions - timed.n_tokens / 2.0);
    std::printf(
        "attention %2d/%2d heads x 128 %s, %4d tokens, %5d positions: %7.1f us, %5.2f TB/s of KV, "
        "%6.1f TFLOPS\n",
        timed.n_heads, timed.n_kv_heads, timed.int8 ? "int8" : "fp16", timed.n_tokens,
        timed.n_positions, us, static_cast<double>(kv_bytes) / us * 1e-6, flops / us * 1e-6);
  }
}

}  // namespace flexq
