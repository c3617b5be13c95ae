// The shapes against the parameter counts that their publishers give.
#include "model/published_shapes.h"

#include <doctest/doctest.h>

#include <map>
#include <string>

namespace flexq::test {

TEST_CASE("published shapes have the published numbers of parameters") {
  const std::map<std::string, int64_t> published = {
      {"tinyllama-1.1b", 1'100'048'384}, {"llama-2-7b", 6'738'415'616},
      {"llama-2-13b", 13'015'864'320},   {"llama-2-70b", 68'976'648'192},
      {"llama-3-8b", 8'030'261'248},     {"llama-3-70b", 70'553'706'496}};
  CHECK(published_shape_names().size() == published.size());
  for (const std::string_view name : published_shape_names()) {
    CAPTURE(std::string(name));
    const auto config = published_shape(name);
    REQUIRE(config.ok());
    CHECK(validate_config(*config, "shape").ok());
    int64_t n_parameters = 0;
    for (const TensorSpec& spec : expected_tensors(*config))
      n_parameters += spec.rows * spec.cols;
    CHECK(n_parameters == published.at(std::string(name)));
  }
}

TEST_CASE("an unknown shape is refused with the known ones") {
  const auto unknown = published_shape("llama-2-7");
  CHECK(unknown.status().code() == StatusCode::kUnsupportedValue);
  CHECK(unknown.status().message() ==
        "unknown shape 'llama-2-7', expected one of tinyllama-1.1b, llama-2-7b, llama-2-13b, "
        "llama-2-70b, llama-3-8b, llama-3-70b");
}

}  // namespace flexq::test
