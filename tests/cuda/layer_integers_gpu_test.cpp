// Every linear layer of real models on CUDA, teacher-forced: given the quantized inputs that the
// CPU backend computed, the group dots are the exact integers, with both families of kernels.
#include "cuda/int_linear_test_support.h"
#include "cuda/teacher_forcing.h"
#include "kernels/ref/reference_kernels.h"
#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

constexpr int32_t kTokens = 40;
constexpr uint16_t kHalfOne = 0x3c00;

// The product of a layer with all scales 1 but those of the activations, which stay 0 for now.
IntProduct unscaled_product(const LayerInput& layer) {
  IntProduct p;
  p.format = layer.format;
  p.activation_bits = layer.activation_bits;
  p.n_rows = layer.n_rows;
  p.n_cols = layer.n_cols;
  p.n_tokens = kTokens;
  p.groups = scales_per_row(layer.format, layer.n_cols);
  p.w_codes = layer.weights;
  p.w_scales.assign(static_cast<size_t>(p.n_rows * p.groups), kHalfOne);
  p.x_codes = layer.codes;
  p.x_scales.assign(static_cast<size_t>(kTokens * p.groups), 0.0f);
  p.bias.assign(static_cast<size_t>(p.n_rows), 0.0f);
  return p;
}

// (n_tokens, n_cols) of rows that are padded to whole groups.
std::vector<int8_t> without_padding(const IntProduct& p) {
  std::vector<int8_t> codes;
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    const auto row = p.x_codes.begin() + t * p.groups * kGroupSize;
    codes.insert(codes.end(), row, row + p.n_cols);
  }
  return codes;
}

// With one group's activation scales 1 and all others 0 an output is that group's dot, exactly:
// |dot| <= 2^21. Every count of tokens that takes another kernel.
void check_integers(const CudaLaunch& launch, const LayerInput& layer, CudaFamily family) {
  IntProduct p = unscaled_product(layer);
  const std::vector<int32_t> dots =
      ref::group_dots(without_padding(p).data(), p.w_codes.data(), p.n_tokens, p.n_rows, p.n_cols);
  for (int64_t group = 0; group < p.groups; ++group) {
    for (int64_t t = 0; t < p.n_tokens; ++t)
      std::fill_n(p.x_scales.begin() + t * p.groups, p.groups, 0.0f);
    for (int64_t t = 0; t < p.n_tokens; ++t)
      p.x_scales[static_cast<size_t>(t * p.groups + group)] = 1.0f;
    const DeviceProduct device(launch, p, family);
    for (const int64_t n_tokens : {int64_t{1}, int64_t{5}, int64_t{kTokens}}) {
      const DeviceArray<float> out(n_tokens * p.n_rows);
      check_cuda(multiply(launch, p, device, 0, n_tokens, nullptr, CudaStore::kSet,
                          {out.data(), p.n_rows}));
      const std::vector<float> found = out.get();
      for (size_t i = 0; i < found.size(); ++i) {
        const auto expected = static_cast<float>(
            dots[i * static_cast<size_t>(p.groups) + static_cast<size_t>(group)]);
        REQUIRE_MESSAGE(found[i] == expected,
                        layer.name << ", " << n_tokens << " tokens, group " << group << ": ["
                                   << i / static_cast<size_t>(p.n_rows) << ", "
                                   << i % static_cast<size_t>(p.n_rows) << "] is " << found[i]
                                   << ", expected " << expected);
      }
    }
  }
}

// All quantized layers of a checkpoint under every policy that quantizes activations.
void check_model(const CudaLaunch& launch, const std::string& checkpoint, int32_t n_vocab) {
  const TemporaryDirectory folder;
  const std::vector<int32_t> tokens = random_tokens(kTokens, n_vocab, 7);
  for (const std::string policy : {"flexq", "w6a6", "w6a8", "w8a8"}) {
    const std::vector<LayerInput> layers =
        teacher_forced_inputs(quantized_copy(checkpoint, policy, folder.path()), tokens);
    REQUIRE(!layers.empty());
    for (const LayerInput& layer : layers) {
      // Inputs that are all zero would agree with anything.
      REQUIRE(std::any_of(layer.codes.begin(), layer.codes.end(), [](int8_t c) { return c != 0; }));
      check_integers(launch, layer, CudaFamily::kInt8);
      if (layer.format == WeightFormat::kInt6Group)
        check_integers(launch, layer, CudaFamily::kBinary);
    }
  }
}

}  // namespace

TEST_CASE("teacher-forced layers give the CPU's integers: stories260k") {
  CudaLaunch launch;
  if (find_gpu(&launch)) check_model(launch, source_path("samples/data/stories260k"), 512);
}

TEST_CASE("teacher-forced layers give the CPU's integers: wiki-tiny-1m") {
  CudaLaunch launch;
  if (find_gpu(&launch)) check_model(launch, source_path("tests/data/wiki-tiny-1m"), 2048);
}

TEST_CASE("teacher-forced layers give the CPU's integers: wiki-llama2-28m") {
  CudaLaunch launch;
  if (!find_gpu(&launch)) return;
  const std::string checkpoint = reference_path("models/wiki-llama2-28m");
  if (!checkpoint.empty()) check_model(launch, checkpoint, 8192);
}

}  // namespace flexq::test
