// The main program of every test. Two outcomes that doctest calls success are not: a filter that
// names no test case, and test cases that all skipped (exit code 77, which ctest shows as Skipped).
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

#include "support/skipped.h"

namespace {

constexpr int kExitSkipped = 77;

int cases_run = 0;
int cases_skipped = 0;

struct CaseCounter : doctest::IReporter {
  explicit CaseCounter(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {
    ++cases_run;
    flexq::test::case_skipped = false;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {
    if (flexq::test::case_skipped) ++cases_skipped;
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
DOCTEST_REGISTER_LISTENER("case_counter", 1, CaseCounter);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit() || result != 0) return result;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with("-tc=") && cases_run == 0) {
      std::fprintf(stderr, "no test case matches %s\n", argv[i]);
      return 1;
    }
  }
  return cases_run > 0 && cases_skipped == cases_run ? kExitSkipped : 0;
}
