// The integer linear layers on the GPU against exact integers and against the documented order of
// sums on the host, bit for bit.
#include <memory>

#include "cuda/int_linear_test_support.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cuda/int8_linear_decode.h"
#include "kernels/cuda/int8_linear_dp4a.h"
#include "kernels/cuda/int8_linear_prefill.h"
#include "kernels/cuda/int8_linear_wgmma.h"

using namespace flexq;
using namespace flexq::test;

namespace {

struct Precision {
  WeightFormat format;
  int32_t activation_bits;
};
constexpr Precision kPrecisions[] = {
    {WeightFormat::kInt6Group, 6}, {WeightFormat::kInt6Group, 8}, {WeightFormat::kInt8Group, 8}};

// What int_linear.cu hands to the INT8 kernels.
Int8LinearArgs int8_args(const IntProduct& p, const DeviceProduct& device, CudaRows out) {
  Int8LinearArgs args;
  args.codes = device.matrix().values;
  args.scales = reinterpret_cast<const uint16_t*>(device.matrix().scales);
  args.x_codes = device.x().codes;
  args.x_scales = device.x().scales;
  args.out = out.data;
  args.out_stride = out.stride;
  args.multiplier = p.format == WeightFormat::kInt6Group ? p.multiplier / 4 : p.multiplier;
  args.n_rows = static_cast<int32_t>(p.n_rows);
  args.n_groups = static_cast<int32_t>(p.groups);
  args.n_tokens = static_cast<int32_t>(p.n_tokens);
  return args;
}

// One non-zero group and scales of 1: the output is the group's dot, exact in fp32.
void check_group_dots(const CudaLaunch& launch, CudaFamily family, uint64_t seed, int shapes) {
  Random random(seed);
  for (int shape = 0; shape < shapes; ++shape) {
    Precision precision = kPrecisions[random.integer(0, 2)];
    if (family == CudaFamily::kBinary) precision.format = WeightFormat::kInt6Group;
    const int64_t n_tokens =
        random.integer(0, 3) == 0 ? random.integer(17, 80) : random.integer(1, 16);
    IntProduct p = random_product(random, precision.format, precision.activation_bits,
                                  random.integer(1, 70), random.integer(1, 700), n_tokens);
    p.multiplier = 1.0f;
    const int64_t group = random.integer(0, p.groups - 1);
    std::fill(p.w_scales.begin(), p.w_scales.end(), float_to_half(1.0f));
    std::fill(p.x_scales.begin(), p.x_scales.end(), 1.0f);
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t g = 0; g < p.groups; ++g) {
        if (g != group)
          std::fill_n(p.x_codes.begin() + (t * p.groups + g) * kGroupSize, kGroupSize, int8_t{0});
      }
    }
    const DeviceProduct device(launch, p, family);
    if (!device.available()) {
      MESSAGE("SKIPPED: no kernels of this family in this build");
      return;
    }
    check_cuda(device.pack_error());
    const DeviceArray<float> out(n_tokens * p.n_rows);
    check_cuda(
        multiply(launch, p, device, 0, n_tokens, nullptr, CudaStore::kSet, {out.data(), p.n_rows}));
    const std::vector<float> got = out.get();
    std::vector<float> expected(got.size());
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t row = 0; row < p.n_rows; ++row)
        expected[static_cast<size_t>(t * p.n_rows + row)] =
            static_cast<float>(group_dot(p, t, row, group));
    }
    check_same_bits(got, p.n_rows, expected, p.n_rows,
                    p.name() + " group " + std::to_string(group));
  }
}

// A random product through cuda_linear_int, with bias and both stores, into poisoned rows that are
// further apart than they are long.
void check_product(const CudaLaunch& launch, CudaFamily family, const IntProduct& p) {
  const DeviceProduct device(launch, p, family);
  if (!device.available()) return;
  check_cuda(device.pack_error());
  const int64_t stride = p.n_rows + 5;
  const std::vector<float> product = host_outputs(p);

  DeviceArray<float> out(p.n_tokens * stride);
  check_cuda(
      multiply(launch, p, device, 0, p.n_tokens, nullptr, CudaStore::kSet, {out.data(), stride}));
  std::vector<float> got = out.get();
  check_same_bits(got, stride, product, p.n_rows, p.name());
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    for (int64_t i = p.n_rows; i < stride; ++i)
      REQUIRE_MESSAGE(std::isnan(got[static_cast<size_t>(t * stride + i)]),
                      p.name() << ": wrote past row " << t);
  }

  Random random(static_cast<uint64_t>(p.n_rows));
  const std::vector<float> before = random.reals(p.n_tokens * stride, -1.0f, 1.0f);
  out.set(before);
  check_cuda(multiply(launch, p, device, 0, p.n_tokens, device.bias(), CudaStore::kAdd,
                      {out.data(), stride}));
  std::vector<float> added = product;
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    for (int64_t row = 0; row < p.n_rows; ++row) {
      float& value = added[static_cast<size_t>(t * p.n_rows + row)];
      value = before[static_cast<size_t>(t * stride + row)] +
              (value + p.bias[static_cast<size_t>(row)]);
    }
  }
  check_same_bits(out.get(), stride, added, p.n_rows, p.name() + " added");
}

// Matrices of one K and one input, in one call into poisoned rows that are further apart than they
// are long. By `tile` of the wgmma kernel where it is given, else as cuda_linear_int() chooses.
void check_joint(const CudaLaunch& launch, CudaFamily family, Random& random,
                 const Precision& precision, const std::vector<int64_t>& rows, int64_t n_cols,
                 int64_t n_tokens, CudaStore store, const WgmmaTile* tile = nullptr) {
  std::vector<IntProduct> products;
  for (const int64_t n_rows : rows) {
    products.push_back(random_product(random, precision.format, precision.activation_bits, n_rows,
                                      n_cols, n_tokens));
    products.back().x_codes = products.front().x_codes;
    products.back().x_scales = products.front().x_scales;
  }
  const IntProduct& first = products.front();
  std::vector<std::unique_ptr<DeviceProduct>> on_device;
  std::vector<std::unique_ptr<DeviceArray<float>>> outs;
  std::vector<std::vector<float>> before;
  std::vector<CudaLinearPart> parts;
  int64_t scratch_bytes = 16;
  for (const IntProduct& p : products) {
    on_device.push_back(std::make_unique<DeviceProduct>(launch, p, family));
    if (!on_device.back()->available()) return;
    const int64_t stride = p.n_rows + 5;
    outs.push_back(std::make_unique<DeviceArray<float>>(n_tokens * stride));
    before.push_back(random.reals(n_tokens * stride, -1.0f, 1.0f));
    if (store == CudaStore::kAdd) outs.back()->set(before.back());
    const bool has_bias = random.integer(0, 1) == 1;
    parts.push_back({on_device.back()->matrix(),
                     has_bias ? on_device.back()->bias() : nullptr,
                     {outs.back()->data(), stride}});
    scratch_bytes =
        std::max(scratch_bytes, cuda_linear_int_scratch_bytes(p.n_rows, n_cols, n_tokens));
  }
  const DeviceArray<uint8_t> scratch(scratch_bytes);
  const DeviceActivations x(first, 0, n_tokens,
                            tile != nullptr
                                ? CodesOrder::kTensor
                                : codes_order(linear_problem(launch, parts, n_tokens, store)));
  check_cuda(tile != nullptr ? int8_linear_wgmma(launch, parts, x.get(), n_tokens, store, *tile)
                             : cuda_linear_int(launch, parts, x.get(), precision.activation_bits,
                                               n_tokens, store, scratch.data()));
  std::vector<std::vector<float>> expected;
  for (size_t i = 0; i < products.size(); ++i) {
    const IntProduct& p = products[i];
    expected.push_back(host_outputs(p));
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t row = 0; row < p.n_rows; ++row) {
        float& value = expected[i][static_cast<size_t>(t * p.n_rows + row)];
        if (parts[i].bias != nullptr) value += p.bias[static_cast<size_t>(row)];
        if (store == CudaStore::kAdd)
          value = before[i][static_cast<size_t>(t * (p.n_rows + 5) + row)] + value;
      }
    }
  }
  if (store == CudaStore::kSiluMul) {
    std::vector<float> product(expected[0].size());
    portable_kernels().silu_mul(expected[0].data(), expected[1].data(),
                                static_cast<int64_t>(product.size()), product.data());
    expected = {product};
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::string name =
        first.name() + " part " + std::to_string(i) + " of " + std::to_string(rows.size()) +
        " store " + std::to_string(static_cast<int>(store)) +
        (tile != nullptr ? " tile " + std::to_string(static_cast<int>(*tile)) : "");
    const int64_t n_rows = products[i].n_rows;
    const std::vector<float> got = outs[i]->get();
    check_same_bits(got, n_rows + 5, expected[i], n_rows, name);
    for (int64_t t = 0; t < n_tokens && store != CudaStore::kAdd; ++t) {
      for (int64_t row = n_rows; row < n_rows + 5; ++row)
        REQUIRE_MESSAGE(std::isnan(got[static_cast<size_t>(t * (n_rows + 5) + row)]),
                        name << ": wrote past row " << t);
    }
  }
}

}  // namespace

TEST_CASE("T25_cuda_int32_group_dots: 10,000 random shapes, INT8 tensor cores") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  check_group_dots(launch, CudaFamily::kInt8, 2501, 10000);
}

TEST_CASE("T25_cuda_int32_group_dots: 10,000 random shapes, binary tensor cores") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  check_group_dots(launch, CudaFamily::kBinary, 2502, 10000);
}

TEST_CASE("int_linear: outputs have the bits of the documented order") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  for (const CudaFamily family : {CudaFamily::kInt8, CudaFamily::kBinary}) {
    Random random(2503);
    for (int round = 0; round < 60; ++round) {
      Precision precision = kPrecisions[round % 3];
      if (family == CudaFamily::kBinary) precision.format = WeightFormat::kInt6Group;
      check_product(
          launch, family,
          random_product(random, precision.format, precision.activation_bits,
                         random.integer(1, 700), random.integer(1, 2500),
                         round % 2 == 0 ? random.integer(1, 40) : random.integer(1, 300)));
    }
  }
}

TEST_CASE("int_linear: joint products, residual, bias and silu") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  for (const CudaFamily family : {CudaFamily::kInt8, CudaFamily::kBinary}) {
    Random random(2507);
    for (int round = 0; round < 90; ++round) {
      Precision precision = kPrecisions[round % 3];
      if (family == CudaFamily::kBinary) precision.format = WeightFormat::kInt6Group;
      const auto store = static_cast<CudaStore>(round / 3 % 3);
      std::vector<int64_t> rows = {random.integer(1, 400)};
      if (store == CudaStore::kSiluMul) {
        rows.push_back(rows.front());
      } else {
        for (int64_t i = random.integer(0, 2); i > 0; --i)
          rows.push_back(random.integer(1, 300));
      }
      const int64_t n_tokens = random.integer(1, round % 2 == 0 ? 20 : 300);
      check_joint(launch, family, random, precision, rows, random.integer(1, 1500), n_tokens,
                  store);
    }
  }
}

TEST_CASE("int_linear: every tile of the wgmma kernel, tokens around its edges") {
  CudaLaunch launch;
  if (!find_gpu(&launch) || launch.sm != 90) return;
  Random random(2508);
  int round = 0;
  for (const WgmmaTile tile : kWgmmaTiles) {
    const WgmmaShape shape = wgmma_shape(tile);
    for (const int64_t edge : {shape.step_tokens, shape.tokens, 2 * shape.tokens}) {
      for (const int64_t n_tokens : {edge - 1, edge, edge + 1}) {
        if (shape.stretches && n_tokens > shape.tokens) continue;
        for (const CudaStore store : {CudaStore::kSet, CudaStore::kAdd, CudaStore::kSiluMul}) {
          if (store == CudaStore::kSiluMul && !shape.gates()) continue;
          // One group, an odd and an even number; rows of one unit and of more than all CTAs have.
          const int64_t groups = round % 5 + 1;
          const int64_t n_rows = round % 7 == 6 ? 16 * 300 + 3 : random.integer(1, 700);
          check_joint(launch, CudaFamily::kInt8, random, kPrecisions[round % 3],
                      store == CudaStore::kSiluMul ? std::vector<int64_t>{n_rows, n_rows}
                                                   : std::vector<int64_t>{n_rows, 40},
                      groups * 128 - random.integer(0, 60), n_tokens, store, &tile);
          ++round;
        }
      }
    }
  }
}

// Small enough for compute-sanitizer: --tool racecheck.
TEST_CASE("int_linear: one product of each wgmma tile") {
  CudaLaunch launch;
  if (!find_gpu(&launch) || launch.sm != 90) return;
  Random random(2509);
  for (const WgmmaTile tile : kWgmmaTiles) {
    const WgmmaShape shape = wgmma_shape(tile);
    check_joint(launch, CudaFamily::kInt8, random, kPrecisions[1], {300, 300}, 1100, shape.tokens,
                shape.gates() ? CudaStore::kSiluMul : CudaStore::kAdd, &tile);
  }
}

TEST_CASE("int_linear: shapes of models, sampled rows") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  struct Shape {
    int64_t n_rows;
    int64_t n_cols;
  };
  for (const CudaFamily family : {CudaFamily::kInt8, CudaFamily::kBinary}) {
    for (const Shape shape :
         {Shape{4096, 4096}, Shape{4096, 11008}, Shape{1000, 28672}, Shape{6144, 2048}}) {
      Random random(static_cast<uint64_t>(shape.n_cols));
      for (const int64_t n_tokens : {1, 16, 33, 200, 1000}) {
        const IntProduct p = random_product(random, WeightFormat::kInt6Group, 6, shape.n_rows,
                                            shape.n_cols, n_tokens);
        const DeviceProduct device(launch, p, family);
        if (!device.available()) return;
        const DeviceArray<float> out(n_tokens * p.n_rows);
        check_cuda(multiply(launch, p, device, 0, n_tokens, nullptr, CudaStore::kSet,
                            {out.data(), p.n_rows}));
        const std::vector<float> got = out.get();
        for (int sample = 0; sample < 2000; ++sample) {
          const int64_t t = random.integer(0, n_tokens - 1);
          const int64_t row = random.integer(0, p.n_rows - 1);
          const float expected = host_output(p, t, row);
          const float value = got[static_cast<size_t>(t * p.n_rows + row)];
          REQUIRE_MESSAGE(value == expected, p.name() << ": [" << t << ", " << row << "] is "
                                                      << value << ", expected " << expected);
        }
        for (const float value : got)
          REQUIRE(std::isfinite(value));
      }
    }
  }
}

TEST_CASE("int_linear: every INT8 kernel gives the same bits") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(2504);
  for (const Precision& precision : kPrecisions) {
    for (const int64_t n_tokens : {1, 7, 8, 9, 16, 17, 31, 32, 65, 130}) {
      const IntProduct p =
          random_product(random, precision.format, precision.activation_bits,
                         random.integer(100, 300), random.integer(1000, 4500), n_tokens);
      const DeviceProduct device(launch, p, CudaFamily::kInt8);
      const std::vector<float> expected = host_outputs(p);
      DeviceArray<float> out(n_tokens * p.n_rows);
      const Int8LinearArgs args = int8_args(p, device, {out.data(), p.n_rows});
      const int32_t bits = weight_bits(p.format);
      const auto check = [&](cudaError_t error, const std::string& kernel) {
        check_cuda(error);
        check_same_bits(out.get(), p.n_rows, expected, p.n_rows, p.name() + " " + kernel);
        out.poison();
      };
      check(int8_linear_dp4a(launch, args, bits), "dp4a");
      for (const bool resident : {true, false}) {
        for (const int32_t n_stages : {1, 2, 3, 4}) {
          if (n_tokens > kInt8DecodeMaxTokens ||
              int8_decode_shared_bytes(bits, n_tokens, n_stages, p.groups, resident) >
                  shared_bytes_per_cta(launch.sm))
            continue;
          check(int8_linear_decode(launch, args, bits, n_stages, resident),
                "decode, stages " + std::to_string(n_stages) + (resident ? ", resident" : ""));
        }
      }
      for (const Int8Tile tile :
           {Int8Tile::k32x32, Int8Tile::k64x32, Int8Tile::k64x64, Int8Tile::k128x64})
        check(int8_linear_prefill(launch, args, bits, tile),
              "prefill, tile " + std::to_string(static_cast<int>(tile)));
    }
  }
}

TEST_CASE("int_linear: a token's bits do not depend on who is in the batch") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  for (const CudaFamily family : {CudaFamily::kInt8, CudaFamily::kBinary}) {
    Random random(2505);
    const IntProduct p = random_product(random, WeightFormat::kInt6Group, 8, 333, 3000, 200);
    const DeviceProduct device(launch, p, family);
    if (!device.available()) return;
    DeviceArray<float> out(p.n_tokens * p.n_rows);
    const auto run = [&](int64_t first, int64_t n_tokens) {
      out.poison();
      check_cuda(multiply(launch, p, device, first, n_tokens, nullptr, CudaStore::kSet,
                          {out.data(), p.n_rows}));
      return out.get(n_tokens * p.n_rows);
    };
    const std::vector<float> all = run(0, p.n_tokens);
    for (int64_t n_tokens = 1; n_tokens <= 40; ++n_tokens) {
      const int64_t first = random.integer(0, p.n_tokens - n_tokens);
      const std::vector<float> part(all.begin() + first * p.n_rows,
                                    all.begin() + (first + n_tokens) * p.n_rows);
      check_same_bits(run(first, n_tokens), p.n_rows, part, p.n_rows,
                      std::to_string(n_tokens) + " tokens from " + std::to_string(first));
    }
  }
}

TEST_CASE("packing: every weight lies where the layout says, padding is zero") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  Random random(2506);
  for (int round = 0; round < 40; ++round) {
    const Precision& precision = kPrecisions[round % 3];
    const int32_t bits = weight_bits(precision.format);
    const IntProduct p = random_product(random, precision.format, 8, random.integer(1, 100),
                                        random.integer(1, 700), 1);
    // In two ranges, the second first.
    const DeviceArray<int8_t> codes(p.w_codes);
    const DeviceArray<uint16_t> scales(p.w_scales);
    const DeviceArray<uint8_t> packed(cuda_int8::codes_bytes(p.n_rows, p.n_cols, bits));
    const DeviceArray<uint8_t> packed_scales(cuda_int8::scales_bytes(p.n_rows, p.n_cols));
    const int64_t cut = p.n_rows / 2 / 16 * 16;
    for (const int64_t begin : {cut, int64_t{0}}) {
      const int64_t count = begin == cut ? p.n_rows - cut : cut;
      if (count == 0) continue;
      check_cuda(cuda_pack_rows(launch, p.format, CudaFamily::kInt8,
                                codes.data() + begin * p.n_cols, scales.data() + begin * p.groups,
                                begin, count, p.n_rows, p.n_cols, packed.data(),
                                packed_scales.data()));
    }
    const std::vector<uint8_t> got = packed.get();
    const std::vector<uint8_t> got_scales = packed_scales.get();
    for (int64_t row = 0; row < cuda_int8::n_blocks(p.n_rows) * 16; ++row) {
      for (int64_t col = 0; col < p.groups * kGroupSize; ++col) {
        const bool inside = row < p.n_rows && col < p.n_cols;
        const int expected = inside ? p.w_codes[static_cast<size_t>(row * p.n_cols + col)] : 0;
        const int64_t unit = row / 16 * p.groups + col / kGroupSize;
        const uint8_t* bytes = got.data() + unit * cuda_int8::unit_bytes(bits);
        const cuda_int8::Place place = cuda_int8::place_of(static_cast<int32_t>(row % 16),
                                                           static_cast<int32_t>(col % kGroupSize));
        int code =
            static_cast<int8_t>(bytes[cuda_int8::code_byte(place) % cuda_int8::unit_bytes(bits)]);
        if (bits == 6) {
          code = 0;
          for (int32_t pair = 0; pair < 3; ++pair) {
            const cuda_int8::BitPlace at = cuda_int8::pair_place(place, pair);
            code |= (bytes[at.byte] >> at.bit & 3) << 2 * pair;
          }
          if (code >= 32) code -= 64;
        }
        REQUIRE_MESSAGE(code == expected, p.name() << ": [" << row << ", " << col << "] is " << code
                                                   << ", expected " << expected);
        if (col % kGroupSize != 0) continue;
        uint16_t scale = 0;
        std::memcpy(&scale, got_scales.data() + (unit * 16 + row % 16) * 2, 2);
        REQUIRE(scale == (row < p.n_rows
                              ? p.w_scales[static_cast<size_t>(row * p.groups + col / kGroupSize)]
                              : 0));
      }
    }
  }
}
