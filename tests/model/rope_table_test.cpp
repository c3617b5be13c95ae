// The angles of rotary embeddings against the formulas of Hugging Face's modeling_rope_utils.py.
#include "model/rope_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "model/reference_forward.h"

namespace flexq::test {
namespace {

ModelConfig config_with(const RopeConfig& rope, int32_t head_dim) {
  ModelConfig config = small_model_config();
  config.rope = rope;
  config.head_dim = head_dim;
  return config;
}

void check_angles(const ModelConfig& config) {
  const RopeTable table(config);
  const Vector frequencies = reference_frequencies(config);
  std::vector<float> cos(frequencies.size()), sin(frequencies.size());
  for (const int32_t position : {0, 1, 2, 31, 32, 100, 4095, 131071}) {
    table.angles(position, cos.data(), sin.data());
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = position * frequencies[i];
      // The frequency, the angle and the result are rounded to fp32 once each.
      const double bound = (2 * angle + 1) * 0x1p-24;
      CAPTURE(position);
      CAPTURE(i);
      CHECK(std::fabs(static_cast<double>(cos[i]) - std::cos(angle)) <= bound);
      CHECK(std::fabs(static_cast<double>(sin[i]) - std::sin(angle)) <= bound);
    }
  }
}

}  // namespace

TEST_CASE("rope angles of every scaling rule") {
  check_angles(config_with({}, 16));
  check_angles(config_with({RopeType::kDefault, 500000.0}, 128));
  check_angles(config_with({RopeType::kLinear, 10000.0, 2.5}, 64));
  // The published values of LLaMA 3.1 and 3.2.
  check_angles(config_with({RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 8192}, 128));
  check_angles(config_with({RopeType::kLlama3, 500000.0, 32.0, 1.0, 4.0, 8192}, 64));
}

TEST_CASE("kept angles are those of their position, in whatever order positions come") {
  const RopeTable table(config_with({RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 8192}, 128));
  RopeRows rows(table, 300);
  const auto n = static_cast<size_t>(table.n_angles());
  REQUIRE(n == 64);
  std::vector<float> cos(n), sin(n), kept_cos(n), kept_sin(n);
  for (const int32_t position : {299, 0, 17, 16, 299, 17, 1, 0}) {
    CAPTURE(position);
    table.angles(position, cos.data(), sin.data());
    rows.copy(position, kept_cos.data(), kept_sin.data());
    CHECK(kept_cos == cos);
    CHECK(kept_sin == sin);
  }
}

TEST_CASE("llama3 scaling keeps short wavelengths, divides long ones, blends between") {
  const RopeConfig rope{RopeType::kLlama3, 500000.0, 8.0, 1.0, 4.0, 8192};
  const Vector scaled = reference_frequencies(config_with(rope, 128));
  const Vector plain = reference_frequencies(config_with({RopeType::kDefault, 500000.0}, 128));
  int n_kept = 0, n_divided = 0, n_blended = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double ratio = plain[i] / scaled[i];
    n_kept += ratio < 1 + 1e-12;
    n_divided += ratio > 8 - 1e-12;
    n_blended += ratio >= 1 + 1e-12 && ratio <= 8 - 1e-12;
  }
  // Wavelength 2 pi 500000^(i / 64) passes 8192 / 4 at i = 28.2 and 8192 at i = 35.0.
  CHECK(n_kept == 29);
  CHECK(n_blended == 6);
  CHECK(n_divided == 29);
}

}  // namespace flexq::test
