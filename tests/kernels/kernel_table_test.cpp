// Every entry of every table gives the bits of the portable table: random shapes with tails,
// inputs with zeros, subnormals, huge values, infinities and NaN, outputs poisoned and their
// neighbours checked.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/half.h"
#include "kernels/kernel_test_support.h"

using namespace flexq;
using namespace flexq::test;

namespace {

constexpr int64_t kGuard = 9;  // elements behind an output that must stay as they were

std::string shape_text(std::initializer_list<int64_t> sizes) {
  std::string text;
  for (const int64_t size : sizes)
    text += " " + std::to_string(size);
  return text;
}

// Calls run(kernels, output) for the portable table and all others with a poisoned output of rows *
// stride elements, and compares. Exactly the columns [begin, end) must be written.
template <typename Run>
void compare(int64_t rows, int64_t stride, int64_t begin, int64_t end, const std::string& what,
             Run run) {
  static const std::vector<const CpuKernels*> tables = vector_tables();
  std::vector<float> expected = poisoned(rows * stride);
  run(portable_kernels(), expected.data());
  check_written(expected, stride, begin, end, what + ", portable");
  for (const CpuKernels* kernels : tables) {
    std::vector<float> found = poisoned(rows * stride);
    run(*kernels, found.data());
    check_written(found, stride, begin, end, what + ", " + kernels->name);
    check_same_bits(expected, found, stride, what + ", " + kernels->name);
  }
}

// Row range [begin, end) of a linear layer, and a stride with room behind it.
struct RowRange {
  RowRange(Random& random, int64_t n_rows, int64_t unit) {
    const int64_t units = (n_rows + unit - 1) / unit;
    unit_begin = random.integer(0, units - 1);
    unit_end = random.integer(unit_begin + 1, units);
    begin = unit_begin * unit;
    end = std::min(n_rows, unit_end * unit);
    stride = n_rows + random.integer(0, 20);
  }
  int64_t unit_begin, unit_end, begin, end, stride;
};

int64_t random_columns(Random& random) {
  static constexpr int64_t kColumns[] = {64, 128, 172, 256, 384};
  return random.chance(0.3) ? kColumns[random.integer(0, 4)] : random.integer(1, 420);
}

int64_t random_tokens(Random& random) {
  return random.chance(0.05) ? random.integer(40, 140) : random.integer(1, 15);
}

}  // namespace

TEST_CASE("select_cpu_kernels: by name, and the best by default") {
  CHECK(select_cpu_kernels("portable") == &portable_kernels());
  CHECK(select_cpu_kernels("none of these") == nullptr);
  CHECK(select_cpu_kernels("") == nullptr);
  const CpuKernels* best = nullptr;
  for (const char* name : cpu_kernel_names()) {
    const CpuKernels* kernels = select_cpu_kernels(name);
    if (kernels == nullptr) continue;
    CHECK(kernels->name == std::string(name));
    if (best == nullptr) best = kernels;
  }
  CHECK(select_cpu_kernels(nullptr) == best);
  CHECK(cpu_kernel_names().back() == std::string("portable"));
}

TEST_CASE("tables: rms_norm, silu_mul, add") {
  Random random(101);
  for (int64_t round = 0; round < 1500; ++round) {
    const int64_t n = 1 + round % 300;
    const std::vector<float> x = random.hard_values(n, round % 3 == 0);
    const std::vector<float> y = random.hard_values(n, round % 5 == 0);
    const std::string size = shape_text({n});
    compare(1, n + kGuard, 0, n, "rms_norm" + size, [&](const CpuKernels& k, float* out) {
      k.rms_norm(x.data(), y.data(), n, 1e-5f, out);
    });
    compare(1, n + kGuard, 0, n, "rms_norm in place" + size, [&](const CpuKernels& k, float* out) {
      std::copy(x.begin(), x.end(), out);
      k.rms_norm(out, y.data(), n, 1e-6f, out);
    });
    compare(1, n + kGuard, 0, n, "silu_mul" + size,
            [&](const CpuKernels& k, float* out) { k.silu_mul(x.data(), y.data(), n, out); });
    compare(1, n + kGuard, 0, n, "add" + size, [&](const CpuKernels& k, float* out) {
      std::copy(x.begin(), x.end(), out);
      k.add(out, y.data(), n);
    });
  }
}

TEST_CASE("tables: silu_mul over all magnitudes of the gate") {
  std::vector<float> gate;
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 10007)
    gate.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  const int64_t n = static_cast<int64_t>(gate.size());
  const std::vector<float> ones(gate.size(), 1.0f);
  compare(1, n, 0, n, "silu_mul",
          [&](const CpuKernels& k, float* out) { k.silu_mul(gate.data(), ones.data(), n, out); });
}

TEST_CASE("tables: rope") {
  Random random(102);
  for (int64_t round = 0; round < 600; ++round) {
    const int64_t head_dim = 2 * (1 + round % 70);
    const int64_t n_heads = random.integer(1, 5);
    const int64_t n = n_heads * head_dim;
    const std::vector<float> x = random.hard_values(n, round % 3 == 0);
    const std::vector<float> cos = random.normals(head_dim / 2);
    const std::vector<float> sin = random.normals(head_dim / 2);
    compare(1, n + kGuard, 0, n, "rope" + shape_text({n_heads, head_dim}),
            [&](const CpuKernels& k, float* out) {
              std::copy(x.begin(), x.end(), out);
              k.rope(out, cos.data(), sin.data(), n_heads, head_dim);
            });
  }
}

TEST_CASE("tables: quantize_row") {
  const std::vector<const CpuKernels*> tables = vector_tables();
  Random random(103);
  for (int64_t round = 0; round < 2000; ++round) {
    const int64_t n_cols = random_columns(random);
    const std::vector<float> x = random.hard_values(n_cols, round % 3 == 0);
    const int32_t bits = round % 2 == 0 ? 6 : 8;
    const auto expected = TestActivations::quantized(portable_kernels(), x, 1, n_cols, bits);
    for (const CpuKernels* kernels : tables) {
      CAPTURE(kernels->name);
      const auto found = TestActivations::quantized(*kernels, x, 1, n_cols, bits);
      REQUIRE(expected.codes == found.codes);
      REQUIRE(expected.sums == found.sums);
      REQUIRE(first_difference(expected.scales, found.scales) == -1);
    }
  }
}

TEST_CASE("tables: quantize_kv_row") {
  const std::vector<const CpuKernels*> tables = vector_tables();
  Random random(108);
  for (int64_t round = 0; round < 3000; ++round) {
    const int64_t n = 1 + round % 140;
    std::vector<float> x = random.hard_values(n, round % 3 == 0);
    if (round % 4 == 1) {
      const float magnitude = std::ldexp(1.0f, static_cast<int>(random.integer(-30, 30)));
      x = random.normals(n);
      for (float& value : x)
        value *= magnitude;
    }
    std::vector<int8_t> expected(static_cast<size_t>(n + kGuard), int8_t{99});
    uint16_t expected_scale = 0;
    portable_kernels().quantize_kv_row(x.data(), n, expected.data(), &expected_scale);
    for (const CpuKernels* kernels : tables) {
      CAPTURE(kernels->name);
      CAPTURE(round);
      std::vector<int8_t> found(static_cast<size_t>(n + kGuard), int8_t{99});
      uint16_t found_scale = 0;
      kernels->quantize_kv_row(x.data(), n, found.data(), &found_scale);
      REQUIRE(expected == found);
      REQUIRE(expected_scale == found_scale);
    }
  }
}

TEST_CASE_TEMPLATE("tables: linear_w6_int8 and linear_w8_int8", Format, W6, W8) {
  Random random(104);
  for (int64_t round = 0; round < 1500; ++round) {
    const int64_t n_tokens = random_tokens(random);
    const int64_t n_rows = random.integer(1, 60);
    const int64_t n_cols = random_columns(random);
    const float multiplier = round % 7 == 0 ? 0x1p-140f : 0x1p-4f;
    const auto w = PackedWeights<Format>::random(random, n_rows, n_cols, multiplier);
    const std::vector<float> x = random.hard_values(n_tokens * n_cols, round % 3 == 0);
    const auto rows =
        TestActivations::quantized(portable_kernels(), x, n_tokens, n_cols, round % 2 == 0 ? 6 : 8);
    const RowRange range(random, n_rows, w6::kUnitRows);
    compare(n_tokens, range.stride, range.begin, range.end,
            std::string(Format::kName) + " linear_int8" + shape_text({n_tokens, n_rows, n_cols}),
            [&](const CpuKernels& k, float* out) {
              (k.*Format::linear_int8)(w.view(), rows.view(), n_tokens, range.unit_begin,
                                       range.unit_end, out, range.stride);
            });
  }
}

TEST_CASE_TEMPLATE("tables: linear_w6_f32 and linear_w8_f32", Format, W6, W8) {
  Random random(105);
  for (int64_t round = 0; round < 800; ++round) {
    const int64_t n_tokens = random.chance(0.3) ? 1 : random_tokens(random);
    const int64_t n_rows = random.integer(1, 60);
    const int64_t n_cols = random_columns(random);
    const auto w = PackedWeights<Format>::random(random, n_rows, n_cols, 1.0f);
    const int64_t x_stride = n_cols + random.integer(0, 3);
    const std::vector<float> x =
        random.hard_values((n_tokens - 1) * x_stride + n_cols, round % 3 == 0);
    const RowRange range(random, n_rows, w6::kUnitRows);
    compare(n_tokens, range.stride, range.begin, range.end,
            std::string(Format::kName) + " linear_f32" + shape_text({n_tokens, n_rows, n_cols}),
            [&](const CpuKernels& k, float* out) {
              (k.*Format::linear_f32)(w.view(), x.data(), x_stride, n_tokens, range.unit_begin,
                                      range.unit_end, out, range.stride);
            });
  }
}

TEST_CASE("tables: linear_dense in F32, F16 and BF16") {
  Random random(106);
  for (int64_t round = 0; round < 1500; ++round) {
    const DenseType type = static_cast<DenseType>(round % 3);
    const int64_t n_tokens = random.integer(1, 8);
    const int64_t n_rows = random.integer(1, 70);
    const int64_t n_cols = random_columns(random);
    const int64_t x_stride = n_cols + random.integer(0, 3);
    const std::vector<float> x =
        random.hard_values((n_tokens - 1) * x_stride + n_cols, round % 5 == 0);
    const std::vector<float> w32 = random.hard_values(n_rows * n_cols, round % 7 == 0);
    std::vector<uint16_t> w16(w32.size());
    for (size_t i = 0; i < w16.size(); ++i)
      w16[i] = type == DenseType::kF16
                   ? float_to_half(w32[i])
                   : static_cast<uint16_t>(std::bit_cast<uint32_t>(w32[i]) >> 16);
    const void* w = type == DenseType::kF32 ? static_cast<const void*>(w32.data()) : w16.data();
    const RowRange range(random, n_rows, 1);
    compare(
        n_tokens, range.stride, range.begin, range.end,
        "linear_dense type " + std::to_string(round % 3) + shape_text({n_tokens, n_rows, n_cols}),
        [&](const CpuKernels& k, float* out) {
          k.linear_dense(w, type, n_cols, x.data(), x_stride, n_tokens, range.begin, range.end, out,
                         range.stride);
        });
  }
}

TEST_CASE("tables: linear_i8_rows") {
  Random random(109);
  for (int64_t round = 0; round < 1000; ++round) {
    const int64_t n_tokens = random.integer(1, 14);
    const int64_t n_rows = random.integer(1, 70);
    const int64_t n_cols = random_columns(random);
    const int64_t x_stride = n_cols + random.integer(0, 3);
    const std::vector<float> x =
        random.hard_values((n_tokens - 1) * x_stride + n_cols, round % 5 == 0);
    const std::vector<int8_t> codes = random.codes(n_rows * n_cols, -128, 127);
    const std::vector<float> scales = random.normals(n_rows);
    const RowRange range(random, n_rows, 1);
    compare(n_tokens, range.stride, range.begin, range.end,
            "linear_i8_rows" + shape_text({n_tokens, n_rows, n_cols}),
            [&](const CpuKernels& k, float* out) {
              k.linear_i8_rows({codes.data(), scales.data()}, n_cols, x.data(), x_stride, n_tokens,
                               range.begin, range.end, out, range.stride);
            });
  }
}

namespace {

// Pages in separate allocations of exactly K then V, so that a read past a page is seen.
struct TestPages {
  TestPages(Random& random, KvElement type, int64_t n_pages, int64_t page_tokens, int64_t head_dim,
            bool faults) {
    const int64_t n = 2 * page_tokens * head_dim;
    const int64_t element_bytes = type == KvElement::kF32 ? 4 : type == KvElement::kF16 ? 2 : 1;
    v_offset_bytes = page_tokens * head_dim * element_bytes;
    if (type == KvElement::kI8) v_offset_bytes += page_tokens * 2;
    for (int64_t i = 0; i < n_pages; ++i) {
      std::vector<uint8_t>& page = pages.emplace_back(static_cast<size_t>(2 * v_offset_bytes));
      const std::vector<float> values = faults ? random.hard_values(n, true) : random.normals(n);
      if (type == KvElement::kF32) {
        std::memcpy(page.data(), values.data(), page.size());
      } else if (type == KvElement::kF16) {
        portable_kernels().float_to_half(values.data(), n,
                                         reinterpret_cast<uint16_t*>(page.data()));
      } else {
        for (int64_t row = 0; row < 2 * page_tokens; ++row) {
          uint8_t* part = page.data() + row / page_tokens * v_offset_bytes;
          const int64_t slot = row % page_tokens;
          portable_kernels().quantize_kv_row(
              values.data() + row * head_dim, head_dim,
              reinterpret_cast<int8_t*>(part) + slot * head_dim,
              reinterpret_cast<uint16_t*>(part + page_tokens * head_dim) + slot);
        }
      }
    }
    for (const std::vector<uint8_t>& page : pages)
      table.push_back(page.data());
  }

  int64_t v_offset_bytes = 0;
  std::vector<std::vector<uint8_t>> pages;
  std::vector<const uint8_t*> table;
};

}  // namespace

TEST_CASE("tables: attention over pages, any head_dim, F16, F32 and I8") {
  Random random(107);
  static constexpr int64_t kHeadDims[] = {8, 32, 64, 128, 2, 6, 10, 22, 48, 80, 102, 256};
  for (int64_t round = 0; round < 1500; ++round) {
    const int64_t head_dim = kHeadDims[random.integer(0, 11)];
    const int64_t page_tokens = random.chance(0.5) ? 16 : random.integer(1, 40);
    const int64_t n_positions = random.integer(1, 100);
    const int64_t n_q = random.integer(1, 4);
    const bool faults = round % 5 == 0;
    const auto type = static_cast<KvElement>(round % 3);
    const int64_t n_pages = (n_positions + page_tokens - 1) / page_tokens;
    const TestPages pages(random, type, n_pages, page_tokens, head_dim, faults);
    const std::vector<float> q =
        faults ? random.hard_values(n_q * head_dim, true) : random.normals(n_q * head_dim);
    std::vector<float> scores(static_cast<size_t>((n_positions + 15) / 16 * 16));
    AttentionArgs args;
    args.q = q.data();
    args.scores = scores.data();
    args.pages = pages.table.data();
    args.v_offset_bytes = pages.v_offset_bytes;
    args.page_tokens = page_tokens;
    args.n_positions = n_positions;
    args.head_dim = head_dim;
    args.n_q = n_q;
    args.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    args.kv_type = type;
    const int64_t n = n_q * head_dim;
    compare(1, n + kGuard, 0, n,
            "attention type " + std::to_string(round % 3) +
                shape_text({n_positions, page_tokens, head_dim, n_q}),
            [&](const CpuKernels& k, float* out) {
              AttentionArgs call = args;
              call.out = out;
              k.attention(call);
            });
  }
}
