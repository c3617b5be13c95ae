// flexq bench serve: against an engine and against a server, and its parts that need no process.
#include <doctest/doctest.h>

#include "load/load_plan.h"
#include "load/load_report.h"
#include "serve/server_metrics.h"
#include "server/server_process.h"
#include "support/test_data.h"

using namespace flexq::test;
using namespace flexq_tool;
using Json = nlohmann::json;

namespace {

const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

void check_report(const Json& report, int64_t n_requests) {
  CHECK(report["requests"] == n_requests);
  CHECK(report["refused"] == 0);
  CHECK(report["failed"] == 0);
  for (const char* name :
       {"time_to_first_token_seconds", "time_per_output_token_seconds", "latency_seconds"}) {
    const Json& values = report[name];
    CHECK(values["p50"] > 0);
    CHECK(values["p50"] <= values["p90"]);
    CHECK(values["p90"] <= values["p95"]);
    CHECK(values["p95"] <= values["p99"]);
  }
  CHECK(report["time_to_first_token_seconds"]["p50"] < report["latency_seconds"]["p50"]);
  CHECK(report["generated_tokens_per_second"] > 0);
}

}  // namespace

TEST_CASE("lengths, and the same requests for the same seed") {
  LengthRange range;
  CHECK(parse_length_range("128", range));
  CHECK(range.min == 128);
  CHECK(range.max == 128);
  CHECK(parse_length_range("5-70", range));
  CHECK(range.min == 5);
  CHECK(range.max == 70);
  for (const char* bad : {"", "-", "0", "5-", "-5", "7-5", "5-x", "1e3", "99999999999", " 5"}) {
    CAPTURE(bad);
    CHECK(!parse_length_range(bad, range));
  }
  LoadShape shape;
  shape.n_requests = 2000;
  shape.rate = 50;
  shape.prompt = {5, 70};
  shape.n_shared = 10;
  const std::vector<LoadRequest> requests = plan_load(shape);
  const std::vector<LoadRequest> again = plan_load(shape);
  REQUIRE(requests.size() == 2000);
  for (size_t i = 0; i < requests.size(); ++i) {
    const LoadRequest& request = requests[i];
    CHECK(request.prompt == again[i].prompt);
    CHECK(request.prompt.size() >= 5);
    CHECK(request.prompt.size() <= 70);
    if (i > 0) CHECK(request.arrival_seconds > requests[i - 1].arrival_seconds);
    for (size_t k = 0; k < 5; ++k)
      CHECK(request.prompt[k] == requests[0].prompt[k]);
  }
  // 2,000 gaps of 20 ms: a standard deviation of 2%.
  CHECK(requests.back().arrival_seconds == doctest::Approx(40).epsilon(0.1));
}

TEST_CASE("percentiles") {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i)
    values.push_back(i);
  const Percentiles all = percentiles(values);
  CHECK(all.p50 == 50);
  CHECK(all.p90 == 90);
  CHECK(all.p95 == 95);
  CHECK(all.p99 == 99);
  CHECK(percentiles({7}).p50 == 7);
  CHECK(percentiles({7}).p99 == 7);
  CHECK(percentiles({}).p50 == 0);
}

TEST_CASE("histograms in Prometheus' format") {
  Histogram histogram({0.1, 1});
  for (const double value : {0.1, 0.5, 0.05, 3.0})
    histogram.add(value);
  CHECK(histogram.text("x_seconds", "Time.") ==
        "# HELP x_seconds Time.\n# TYPE x_seconds histogram\n"
        "x_seconds_bucket{le=\"0.1\"} 2\nx_seconds_bucket{le=\"1\"} 3\n"
        "x_seconds_bucket{le=\"+Inf\"} 4\nx_seconds_sum 3.65\nx_seconds_count 4\n");
  CHECK(metric_label("a\"b\\c\nd") == R"("a\"b\\c\nd")");
}

TEST_CASE("bench serve measures an engine in this process") {
  const Json closed = run_json({"bench", "serve", kWikiTiny, "--requests", "20", "--concurrency",
                                "4", "--prompt", "16-48", "--generate", "8", "--threads", "2"});
  check_report(closed, 20);
  CHECK(closed["steps"] >= 5 * 8);
  CHECK(closed["floor_ratio"] > 0);
  CHECK(closed["preemptions"] == 0);
  const Json shared =
      run_json({"bench", "serve", kWikiTiny, "--requests", "12", "--rate", "200", "--prompt", "80",
                "--shared-prefix", "64", "--generate", "2-4", "--warm-up", "1"});
  check_report(shared, 12);
  CHECK(shared["reused_prompt_tokens"] == 12 * 64);
  const ToolResult text = run_tool({"bench", "serve", kWikiTiny, "--requests", "3"});
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("time per output token") != std::string::npos);
}

TEST_CASE("bench serve measures a server") {
  ServerProcess server({kWikiTiny, "--api-key", "key"});
  const std::string url = "http://127.0.0.1:" + std::to_string(server.port());
  check_report(run_json({"bench", "serve", "--url", url, "--api-key", "key", "--requests", "12",
                         "--concurrency", "3", "--prompt", "20", "--generate", "6"}),
               12);
  check_report(run_json({"bench", "serve", "--url", url, "--api-key", "key", "--requests", "6",
                         "--rate", "50", "--prompt", "20", "--generate", "6"}),
               6);
  check_failure(run_tool({"bench", "serve", "--url", url}), 1, {"401"});
  check_failure(run_tool({"bench", "serve", "--url", "https://x"}), 2, {"--url"});
  check_failure(run_tool({"bench", "serve"}), 2, {"MODEL"});
  check_failure(run_tool({"bench", "serve", kWikiTiny, "--prompt", "x"}), 2, {"--prompt"});
}
