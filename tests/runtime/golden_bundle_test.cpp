// T34: the bundle of every released format loads and gives the text that was recorded with it.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "base/byte_source.h"
#include "bundle/bundle_reader.h"
#include "runtime/runtime_fixtures.h"
#include "support/test_data.h"

namespace flexq::test {
namespace {

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("T34_golden_bundle of format 1") {
  const std::string path = source_path("tests/data/format-1/stories260k.flexq");
  auto opened = Bundle::open(value_of(open_file_source(path)), {});
  REQUIRE_MESSAGE(opened.ok(), opened.status().message());
  Bundle& bundle = **opened;
  CHECK(bundle.header().format_version == 1);
  ThreadPool pool(2);
  require_ok(bundle.verify(pool, {}));
  CHECK(bundle.policy() == "auto");
  REQUIRE(bundle.provenance().calibration.has_value());
  CHECK(bundle.provenance().calibration->goal == "a8_fraction");
  CHECK(bundle.provenance().calibration->policies.size() == 8);
  CHECK(bundle.provenance().evidence.size() == 5 * 7 * 5);

  // Greedy, token by token on the CPU, whose kernels all give the same bits.
  const std::string expected = file_text(source_path("tests/data/format-1/stories260k.txt"));
  const auto model = open_test_model(path);
  const auto context = value_of(Context::create(model, {}));
  std::vector<int32_t> tokens = value_of(model->tokenizer->encode("Once upon a time"));
  std::vector<int32_t> next = tokens;
  for (int i = 0; i < 64; ++i) {
    const BatchItem item{0, next, OutputRows::kLast};
    require_ok(context->decode({&item, 1}, kNeverStop));
    const float* logits = value_of(context->logits_row(0));
    const int32_t n_vocab = model->llama->config().n_vocab;
    next = {static_cast<int32_t>(std::max_element(logits, logits + n_vocab) - logits)};
    tokens.push_back(next[0]);
  }
  CHECK(value_of(model->tokenizer->decode(tokens)) == expected);
}

}  // namespace flexq::test
