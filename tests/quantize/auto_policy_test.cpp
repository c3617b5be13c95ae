// Calibration, sensitivities and policy auto, on models small enough to be measured in seconds.
// With FLEXQ_LONG_TESTS in the environment also on wiki-llama2-28m.
#include "quantize/auto_policy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/byte_source.h"
#include "base/file.h"
#include "bundle/bundle_reader.h"
#include "checkpoint/checkpoint_reader.h"
#include "quantize/planted_checkpoint.h"
#include "quantize/quantize_checkpoint.h"
#include "quantize/sensitivity.h"
#include "support/test_data.h"
#include "text/tokenizer_files.h"

namespace flexq::test {
namespace {

const std::string kStories = source_path("samples/data/stories260k");
const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A text of a little over 4 windows for stories260k.
std::string stories_text() {
  const std::string story = file_text(kStories + "/greedy.txt");
  std::string text;
  for (int i = 0; i < 12; ++i)
    text += story;
  return text;
}

std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& checkpoint) {
  auto files = read_tokenizer_directory(checkpoint);
  REQUIRE(files.ok());
  auto tokenizer = Tokenizer::create(std::move(files->data));
  REQUIRE(tokenizer.ok());
  return *tokenizer;
}

QuantizeOptions auto_options(const std::string& text) {
  QuantizeOptions options;
  options.policy = "auto";
  options.calibration_text = text;
  options.calibration_windows = 4;
  options.goal.a8_fraction = 0.25;
  options.n_threads = 2;
  return options;
}

std::unique_ptr<Bundle> open_bundle(const std::string& path) {
  auto source = open_file_source(path);
  REQUIRE(source.ok());
  auto bundle = Bundle::open(std::move(source).value(), {});
  REQUIRE_MESSAGE(bundle.ok(), bundle.status().message());
  return std::move(bundle).value();
}

double wide_share(const Bundle& bundle) {
  int64_t wide = 0, all = 0;
  for (const StoredTensor& tensor : bundle.tensors()) {
    if (tensor.spec.role != TensorRole::kLinear) continue;
    CHECK((tensor.activation_bits == 6 || tensor.activation_bits == 8));
    all += tensor.spec.rows * tensor.spec.cols;
    if (tensor.activation_bits == 8) wide += tensor.spec.rows * tensor.spec.cols;
  }
  return static_cast<double>(wide) / static_cast<double>(all);
}

const MeasuredPrecision& policy_of(const BundleCalibration& calibration, const std::string& name) {
  const auto found =
      std::find_if(calibration.policies.begin(), calibration.policies.end(),
                   [&](const MeasuredPrecision& entry) { return entry.name == name; });
  REQUIRE(found != calibration.policies.end());
  return *found;
}

std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> rank(values.size());
  for (size_t i = 0; i < order.size(); ++i)
    rank[order[i]] = static_cast<double>(i);
  return rank;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> x = ranks(a), y = ranks(b);
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i)
    squares += (x[i] - y[i]) * (x[i] - y[i]);
  const auto n = static_cast<double>(x.size());
  return 1 - 6 * squares / (n * (n * n - 1));
}

// The rises of the mean negative log likelihood by the protocol of the references: the first 48
// windows of wiki.test.
void check_against_reference(const std::string& checkpoint_dir, const std::string& reference) {
  const std::string text_path = reference_path("text/wiki.test.raw");
  if (text_path.empty()) return;
  auto opened = Checkpoint::open(checkpoint_dir);
  REQUIRE(opened.ok());
  Checkpoint& checkpoint = **opened;
  const auto tokens = tokenizer_of(checkpoint_dir)->encode(file_text(text_path));
  REQUIRE(tokens.ok());
  CalibrationText text;
  text.window_tokens = 512;
  text.tokens.assign(tokens->begin(), tokens->begin() + 48 * 512);
  ThreadPool pool(available_cpus());
  auto walk = LayerWalk::create(checkpoint, 512, pool);
  REQUIRE(walk.ok());
  const auto losses = measure_sensitivity(**walk, checkpoint, text, 6, [] { return Status(); });
  REQUIRE(losses.ok());
  const auto json = nlohmann::ordered_json::parse(file_text(reference));
  std::vector<double> expected, found;
  for (const auto& member : json["sensitivity_delta_nll_a6_alone"].items())
    expected.push_back(member.value());
  for (const LogitLoss& loss : *losses)
    found.push_back(loss.nll());
  REQUIRE(found.size() == expected.size());
  const double correlation = spearman(found, expected);
  MESSAGE(checkpoint_dir << ": Spearman " << correlation);
  CHECK(correlation >= 0.95);
}

}  // namespace

TEST_CASE("calibration texts: windows spread over the text, and refusals") {
  const auto tokenizer = tokenizer_of(kStories);
  const std::string text = stories_text() + stories_text();
  const auto all = make_calibration_text(*tokenizer, text, 512, 1000);
  REQUIRE(all.ok());
  CHECK(all->window_tokens == 512);
  REQUIRE(all->n_windows() >= 8);
  const auto four = make_calibration_text(*tokenizer, text, 512, 4);
  REQUIRE(four.ok());
  REQUIRE(four->n_windows() == 4);
  for (int32_t i = 0; i < 4; ++i) {
    const auto found = four->window(i);
    const auto expected = all->window(i * all->n_windows() / 4);
    CHECK(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
  }
  CHECK(make_calibration_text(*tokenizer, text, 64, 10)->window_tokens == 64);

  const auto message = [&](const std::string& bad) {
    const auto result = make_calibration_text(*tokenizer, bad, 512, 4);
    REQUIRE_FALSE(result.ok());
    CHECK(result.status().code() == StatusCode::kInvalidArgument);
    return result.status().message();
  };
  CHECK(message("").find("found none") != std::string::npos);
  CHECK(message(text + "\xff").find("expected UTF-8") != std::string::npos);
  CHECK(message("Once upon a time").find("at least 4 windows of 512 tokens, found") !=
        std::string::npos);
}

TEST_CASE("auto_sensitivity agrees with the reference: wiki-tiny-1m") {
  check_against_reference(kWikiTiny, source_path("tests/data/wiki-tiny-1m-golden/reference.json"));
}

TEST_CASE("auto_sensitivity agrees with the reference: wiki-llama2-28m" *
          doctest::skip(std::getenv("FLEXQ_LONG_TESTS") == nullptr)) {
  const std::string checkpoint = reference_path("models/wiki-llama2-28m");
  const std::string reference = reference_path("golden/wiki-llama2-28m/reference.json");
  if (checkpoint.empty() || reference.empty()) return;
  check_against_reference(checkpoint, reference);
}

TEST_CASE("auto keeps to a share and records what it measured") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  const QuantizeOptions options = auto_options(stories_text());
  const Status status = quantize_checkpoint(kStories, path, options);
  REQUIRE_MESSAGE(status.ok(), status.message());
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(bundle->policy() == "auto");
  const double share = wide_share(*bundle);
  CHECK(share <= 0.25);
  CHECK(share > 0.15);
  const BundleProvenance& provenance = bundle->provenance();
  REQUIRE(provenance.calibration.has_value());
  const BundleCalibration& calibration = *provenance.calibration;
  CHECK(calibration.n_windows == 4);
  CHECK(calibration.window_tokens == 512);
  CHECK(calibration.goal == "a8_fraction");
  CHECK(calibration.goal_value == 0.25);
  CHECK(calibration.goal_met);
  CHECK(policy_of(calibration, "auto").a8_share == doctest::Approx(share));
  CHECK(policy_of(calibration, "w6a8").a8_share == 1.0);
  CHECK(policy_of(calibration, "w6a16").kl_divergence >
        policy_of(calibration, "w8a16").kl_divergence);
  CHECK(policy_of(calibration, "w6a6").kl_divergence >
        policy_of(calibration, "w6a8").kl_divergence);
  CHECK(policy_of(calibration, "unquantized").kl_divergence == doctest::Approx(0).epsilon(1e-6));
  REQUIRE(calibration.front.size() == 9);
  CHECK(calibration.front.front().a8_share == 0.0);
  CHECK(calibration.front.back().a8_share == 1.0);

  // Five figures for each of 5 * 7 layers (equalization finds nothing in this model); 172 inputs of
  // down_proj are two groups.
  REQUIRE(provenance.evidence.size() == 5 * 7 * 5);
  for (const BundleEvidence& evidence : provenance.evidence) {
    CAPTURE(evidence.tensor);
    CAPTURE(evidence.metric);
    const bool is_down = evidence.tensor.find("down_proj") != std::string::npos;
    if (evidence.metric == "input_max") {
      REQUIRE(evidence.values.size() == (is_down ? 2 : 1));
      CHECK(evidence.value > 0);
      CHECK(evidence.value == *std::max_element(evidence.values.begin(), evidence.values.end()));
    } else {
      CHECK(evidence.values.empty());
    }
    if (evidence.metric == "kl_a6") CHECK(evidence.value > 0);
    if (evidence.metric == "output_error_a6") {
      CHECK(evidence.value > 1e-6);
      CHECK(evidence.value < 0.05);
    }
  }
}

TEST_CASE(
    "auto_equalization: channels are equalized where that lowers the divergence, and the bundle "
    "computes it") {
  const TemporaryDirectory directory;
  const char* const policy = "flexq";
  QuantizeOptions options = auto_options(stories_text());
  options.policy = policy;
  options.goal = {};
  double n_equalized = 0;
  const auto divergence = [&](bool equalize) {
    options.equalize = equalize;
    const std::string path = directory.file("model.flexq");
    REQUIRE(quantize_checkpoint(kWikiTiny, path, options).ok());
    const std::unique_ptr<Bundle> bundle = open_bundle(path);
    const std::vector<BundleEvidence>& evidence = bundle->provenance().evidence;
    n_equalized = 0;
    for (const BundleEvidence& entry : evidence)
      if (entry.metric == "equalized_channels") n_equalized += entry.value;
    // What was measured is what was written: the bundle once more, against the checkpoint.
    auto checkpoint = Checkpoint::open(kWikiTiny);
    REQUIRE(checkpoint.ok());
    ThreadPool pool(2);
    const auto text = make_calibration_text(*tokenizer_of(kWikiTiny), *options.calibration_text,
                                            512, options.calibration_windows);
    REQUIRE(text.ok());
    auto walk = LayerWalk::create(**checkpoint, text->window_tokens, pool);
    REQUIRE(walk.ok());
    PrecisionRun run = {bundle.get(), {}};
    for (int32_t layer = 0; layer < bundle->config().n_layers; ++layer)
      run.bits.push_back(find_precision_policy(policy)->activation_bits);
    const auto losses =
        measure_runs(**walk, **checkpoint, *text, {&run, 1}, [] { return Status(); });
    REQUIRE_MESSAGE(losses.ok(), losses.status().message());
    LogitLoss sum;
    for (const LogitLoss& window : losses->front())
      sum.add(window);
    const double measured = policy_of(*bundle->provenance().calibration, policy).kl_divergence;
    CHECK(sum.kl() == doctest::Approx(measured).epsilon(1e-9));
    return sum.kl();
  };
  const double equalized = divergence(true);
  CHECK(n_equalized > 100);
  CHECK(equalized < 0.9 * divergence(false));
  CHECK(n_equalized == 0);
}

TEST_CASE("T35_auto_deterministic_bundle: auto gives the same bytes for any number of threads") {
  const TemporaryDirectory directory;
  std::string first;
  for (const int n_threads : {1, 8}) {
    QuantizeOptions options = auto_options(stories_text());
    options.n_threads = n_threads;
    const std::string path = directory.file("model.flexq");
    REQUIRE(quantize_checkpoint(kStories, path, options).ok());
    const std::string bytes = file_text(path);
    if (first.empty()) first = bytes;
    CHECK(bytes == first);
  }
}

TEST_CASE("auto_scale_search: a calibration text weights it unless told otherwise") {
  const TemporaryDirectory directory;
  const auto bytes_with = [&](std::optional<ScaleSearch> search) {
    QuantizeOptions options = auto_options(stories_text());
    options.policy = "w6a8";
    options.goal = {};
    options.scale_search = search;
    const std::string path = directory.file("model.flexq");
    REQUIRE(quantize_checkpoint(kStories, path, options).ok());
    return file_text(path);
  };
  const std::string weighted = bytes_with(ScaleSearch::kWeighted);
  CHECK(bytes_with({}) == weighted);
  CHECK(bytes_with(ScaleSearch::kNone) != weighted);
}

TEST_CASE("auto under a budget: met, missed, missed by force") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  QuantizeOptions options = auto_options(stories_text());
  options.goal.a8_fraction.reset();

  // With searched scales the errors of 8-bit activations happen to make up for those of the
  // weights.
  options.scale_search = ScaleSearch::kNone;

  options.goal.perplexity_budget = 0.5;  // anything goes: nothing has to be wide
  REQUIRE(quantize_checkpoint(kStories, path, options).ok());
  CHECK(wide_share(*open_bundle(path)) == 0.0);
  REQUIRE(std::filesystem::remove(path));

  options.goal.perplexity_budget = 1e-7;
  const Status missed = quantize_checkpoint(kStories, path, options);
  CHECK(missed.code() == StatusCode::kBudgetNotMet);
  CHECK(missed.message().find("the best that 8-bit activations reach") != std::string::npos);
  CHECK(list_directory(directory.path())->empty());

  options.goal.force = true;
  REQUIRE(quantize_checkpoint(kStories, path, options).ok());
  const std::unique_ptr<Bundle> forced = open_bundle(path);
  REQUIRE(forced->provenance().calibration.has_value());
  CHECK_FALSE(forced->provenance().calibration->goal_met);
}

TEST_CASE("options that do not fit each other are refused before any work") {
  const TemporaryDirectory directory;
  const auto refused = [&](const QuantizeOptions& options, const char* part) {
    const Status status = quantize_checkpoint(kStories, directory.file("model.flexq"), options);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    CHECK(list_directory(directory.path())->empty());
  };
  QuantizeOptions options = auto_options("text");
  refused(options, "at least 4 windows");
  options.goal.perplexity_budget = 0.01;
  refused(options, "found both");
  options.goal = {};
  refused(options, "found neither");
  options.goal.a8_fraction = 0.5;
  options.calibration_text.reset();
  refused(options, "expected a calibration text");
  options.policy = "flexq";
  refused(options, "which are for policy auto");
  options.goal = {};
  options.scale_search = ScaleSearch::kWeighted;
  refused(options, "weighted by inputs");
  options.scale_search.reset();
  options.equalize = true;
  refused(options, "equalization: expected a calibration text");
  options.calibration_text = "text";
  options.policy = "w6a8";
  refused(options, "expected a policy with 6-bit activations, found w6a8");
  options.policy = "auto";
  options.goal.perplexity_budget = 0.01;
  refused(options, "equalization: expected no perplexity budget");
}

TEST_CASE("a fixed policy with a calibration text is measured and stays what it is") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("model.flexq");
  QuantizeOptions options = auto_options(stories_text());
  options.policy = "w6a8";
  options.goal = {};
  int64_t last[2] = {-1, 0};
  options.progress = {[](int64_t done, int64_t total, void* user_data) {
                        auto* seen = static_cast<int64_t*>(user_data);
                        CHECK(done >= seen[0]);
                        seen[0] = done;
                        seen[1] = total;
                        return int32_t{0};
                      },
                      last};
  REQUIRE(quantize_checkpoint(kStories, path, options).ok());
  CHECK(last[0] == last[1]);
  CHECK(last[1] == 10'000);
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  CHECK(wide_share(*bundle) == 1.0);
  REQUIRE(bundle->provenance().calibration.has_value());
  CHECK(bundle->provenance().calibration->goal.empty());

  // Half-way: nothing appears.
  options.progress = {[](int64_t done, int64_t, void*) { return done > 5000 ? 1 : 0; }, nullptr};
  const std::string cancelled = directory.file("cancelled.flexq");
  CHECK(quantize_checkpoint(kStories, cancelled, options).code() == StatusCode::kCancelled);
  CHECK_FALSE(std::filesystem::exists(cancelled));
}

TEST_CASE("auto_planted: outlier channels come first, and auto beats the fixed rule by far") {
  const std::string text = reference_path("text/wiki.valid.raw");
  if (text.empty()) return;
  const TemporaryDirectory directory;
  write_planted_checkpoint(directory.path());
  const std::string path = directory.file("model.flexq");
  QuantizeOptions options = auto_options(file_text(text));
  options.calibration_windows = 6;
  options.equalize = false;
  REQUIRE(quantize_checkpoint(directory.path(), path, options).ok());
  const std::unique_ptr<Bundle> bundle = open_bundle(path);
  std::vector<std::pair<double, std::string>> losses;
  for (const BundleEvidence& evidence : bundle->provenance().evidence)
    if (evidence.metric == "kl_a6") losses.emplace_back(evidence.value, evidence.tensor);
  std::sort(losses.rbegin(), losses.rend());
  std::vector<std::string> first, planted;
  for (const int layer : kPlantedFfnLayers)
    planted.push_back("model.layers." + std::to_string(layer) + ".mlp.down_proj.weight");
  planted.push_back("model.layers." + std::to_string(kPlantedValueLayer) +
                    ".self_attn.o_proj.weight");
  for (size_t i = 0; i < planted.size(); ++i)
    first.push_back(losses[i].second);
  std::sort(first.begin(), first.end());
  std::sort(planted.begin(), planted.end());
  CHECK(first == planted);

  const BundleCalibration& calibration = *bundle->provenance().calibration;
  const auto loss_of = [&](const std::string& name) {
    return std::log(policy_of(calibration, name).perplexity /
                    policy_of(calibration, "unquantized").perplexity);
  };
  CHECK(loss_of("auto") <= 0.7 * loss_of("flexq"));

  // Equalized, the outliers of the FFN are gone before bits are chosen.
  options.equalize = true;
  const std::string equalized = directory.file("equalized.flexq");
  REQUIRE(quantize_checkpoint(directory.path(), equalized, options).ok());
  const std::unique_ptr<Bundle> better = open_bundle(equalized);
  CHECK(policy_of(*better->provenance().calibration, "auto").kl_divergence <
        0.95 * policy_of(calibration, "auto").kl_divergence);
}

}  // namespace flexq::test
