// Models of published shapes in a precision, and their bundles.
#include "quantize/synthetic_model.h"

#include <doctest/doctest.h>

#include "base/file.h"
#include "support/test_data.h"

namespace flexq::test {

TEST_CASE("a synthetic model has the shape and the precision that were asked for") {
  QuantizeOptions options;
  options.policy = "w8a8";
  options.lm_head_bits = 8;
  const auto model = make_synthetic_model("tinyllama-1.1b", options);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  SyntheticSource& source = **model;
  CHECK(source.config().n_layers == 22);
  CHECK(source.tensors().size() == 22 * 9 + 3);
  for (const StoredTensor& tensor : source.tensors()) {
    const TensorRole role = tensor.spec.role;
    CHECK(tensor.format == (role == TensorRole::kLinear      ? WeightFormat::kInt8Group
                            : role == TensorRole::kLmHead    ? WeightFormat::kInt8Row
                            : role == TensorRole::kEmbedding ? WeightFormat::kF16
                                                             : WeightFormat::kF32));
    CHECK(tensor.activation_bits == (role == TensorRole::kLinear ? 8 : 16));
  }
  // The same shape again is the same model.
  const auto again = make_synthetic_model("tinyllama-1.1b", options);
  REQUIRE(again.ok());
  PieceBuffer buffers[2];
  WeightPiece pieces[2];
  REQUIRE(source.read_piece(2, 0, buffers[0], &pieces[0]).ok());
  REQUIRE((*again)->read_piece(2, 0, buffers[1], &pieces[1]).ok());
  CHECK(pieces[0].n_rows == pieces[1].n_rows);
  CHECK(std::equal(pieces[0].values, pieces[0].values + pieces[0].n_rows * 2048, pieces[1].values));
}

TEST_CASE("unknown shapes and policies are refused; a cancelled bundle leaves nothing") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  QuantizeOptions options;
  CHECK(make_synthetic_model("llama-4", options).status().code() == StatusCode::kUnsupportedValue);
  CHECK(quantize_synthetic_model("llama-4", path, options).code() == StatusCode::kUnsupportedValue);
  options.progress = {[](int64_t, int64_t, void*) { return int32_t{1}; }, nullptr};
  CHECK(quantize_synthetic_model("tinyllama-1.1b", path, options).code() == StatusCode::kCancelled);
  options.policy = "w4a4";
  CHECK(make_synthetic_model("tinyllama-1.1b", options).status().code() ==
        StatusCode::kUnsupportedValue);
  CHECK(quantize_synthetic_model("tinyllama-1.1b", path, options).code() ==
        StatusCode::kUnsupportedValue);
  CHECK(list_directory(directory.path())->empty());
}

}  // namespace flexq::test
