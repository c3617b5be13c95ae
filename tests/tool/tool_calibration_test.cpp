// quantize with a calibration text: what it prints, the report, and its refusals.
#include <doctest/doctest.h>

#include <filesystem>

#include "support/test_data.h"
#include "tool/tool_process.h"

using namespace flexq::test;

namespace {

const std::string kStories = source_path("samples/data/stories260k");

std::string write_text(const TemporaryDirectory& directory) {
  const std::string story = read_whole_file(kStories + "/greedy.txt");
  std::string text;
  for (int i = 0; i < 12; ++i)
    text += story;
  const std::string path = directory.file("text");
  write_whole_file(path, text);
  return path;
}

}  // namespace

TEST_CASE("quantize --policy auto: JSON, report and inspect") {
  const TemporaryDirectory directory;
  const std::string bundle = directory.file("auto.flexq");
  const std::string report = directory.file("report.html");
  const auto json = run_json({"quantize", kStories, "-o", bundle, "--policy", "auto",
                              "--calibration", write_text(directory), "--calibration-windows", "4",
                              "--a8-fraction", "0.3", "--report", report});
  CHECK(json["policy"] == "auto");
  CHECK(json["layers"].size() == 35);
  CHECK(json["calibration"]["goal"] == "a8_fraction");
  CHECK(json["calibration"]["policies"].size() == 8);
  CHECK(json["calibration"]["policies"][7]["policy"] == "auto");
  CHECK(json["calibration"]["policies"][7]["a8_share"] <= 0.3);

  // One page that needs nothing else.
  const std::string page = read_whole_file(report);
  CHECK(page.starts_with("<!DOCTYPE html>"));
  CHECK(page.ends_with("</html>\n"));
  for (const char* part :
       {"viewport", "prefers-color-scheme:dark", "<svg", "stories260k, policy auto",
        "<th>w8a16</th>", "class=\"heat\"", "whole file"}) {
    CAPTURE(part);
    CHECK(page.find(part) != std::string::npos);
  }
  for (const char* part : {"http:", "https:", "src=", "href=", "url(", "nan", "inf "}) {
    CAPTURE(part);
    CHECK(page.find(part) == std::string::npos);
  }

  const ToolResult inspected = run_tool({"inspect", bundle});
  CHECK(inspected.exit_code == 0);
  CHECK(inspected.out.find("measured on 4 windows of 512 tokens") != std::string::npos);
  CHECK(inspected.out.find("w6a16") != std::string::npos);
}

TEST_CASE("a report without a calibration text shows bits and sizes") {
  const TemporaryDirectory directory;
  const std::string report = directory.file("report.html");
  run_json({"quantize", kStories, "-o", directory.file("m.flexq"), "--report", report});
  const std::string page = read_whole_file(report);
  CHECK(page.find("No calibration text was given") != std::string::npos);
  CHECK(page.find("<svg") == std::string::npos);
}

TEST_CASE("auto_bad_calibration: texts and budgets that do not serve") {
  const TemporaryDirectory directory;
  const std::string output = directory.file("m.flexq");
  const std::string text = directory.file("bad");
  const auto refused = [&](const std::string& bytes, const char* part) {
    write_whole_file(text, bytes);
    check_failure(run_tool({"quantize", kStories, "-o", output, "--policy", "auto", "--calibration",
                            text, "--a8-fraction", "0.3"}),
                  1, {part});
    CHECK_FALSE(std::filesystem::exists(output));
  };
  refused("", "expected text, found none");
  refused("\xff\xfe", "expected UTF-8");
  refused("Once upon a time", "at least 4 windows of 512 tokens");
  // With searched scales the errors of 8-bit activations happen to make up for those of the
  // weights.
  check_failure(run_tool({"quantize", kStories, "-o", output, "--policy", "auto", "--calibration",
                          write_text(directory), "--calibration-windows", "4", "--budget-ppl",
                          "0.0000001", "--scale-search", "none"}),
                1, {"the best that 8-bit activations reach", "--force"});
  CHECK_FALSE(std::filesystem::exists(output));
  check_failure(
      run_tool({"quantize", kStories, "-o", output, "--policy", "auto", "--a8-fraction", "1.5"}), 2,
      {"--a8-fraction"});
  check_failure(
      run_tool({"quantize", kStories, "-o", output, "--a8-fraction", "0.5", "--budget-ppl", "0.1"}),
      2, {"--budget-ppl"});
}
