// The report of flexq bench kernels --tune.
#include <algorithm>
#include <span>

#include "kernel_report.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

// Differences below this part are the clock's: FlexQ's choice then stays.
constexpr double kNoise = 0.01;

// Every configuration of one matrix and number of tokens.
struct Choice {
  const KernelTimes* times = nullptr;
  std::span<const flexq_kernel_time> all;
  const flexq_kernel_time* chosen = nullptr;
  const flexq_kernel_time* fastest = nullptr;

  double loss() const { return chosen->microseconds / fastest->microseconds - 1; }
  const flexq_kernel_time& kept() const { return loss() < kNoise ? *chosen : *fastest; }
};

bool is_same_problem(const flexq_kernel_time& a, const flexq_kernel_time& b) {
  return a.n_tokens == b.n_tokens && a.rows == b.rows && a.cols == b.cols &&
         a.activation_bits == b.activation_bits && std::string_view(a.format) == b.format;
}

// Problems whose kernels leave no choice are left out.
std::vector<Choice> choices_of(const std::vector<KernelTimes>& results) {
  std::vector<Choice> choices;
  for (const KernelTimes& times : results) {
    const std::span<const flexq_kernel_time> rows = times.rows;
    for (size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
      while (end < rows.size() && is_same_problem(rows[begin], rows[end]))
        ++end;
      Choice choice;
      choice.times = &times;
      choice.all = rows.subspan(begin, end - begin);
      for (const flexq_kernel_time& time : choice.all) {
        if (time.configuration[0] == '\0') continue;
        if (time.chosen != 0) choice.chosen = &time;
        if (choice.fastest == nullptr || time.microseconds < choice.fastest->microseconds)
          choice.fastest = &time;
      }
      if (choice.chosen != nullptr) choices.push_back(choice);
    }
  }
  return choices;
}

// Neighbouring numbers of tokens of one matrix for which the same configuration is kept.
struct TableRow {
  const KernelTimes* times = nullptr;
  flexq_kernel_time first;
  flexq_kernel_time last;
};

std::vector<TableRow> table_rows(std::vector<Choice> choices) {
  const auto matrix = [](const Choice& choice) {
    const flexq_kernel_time& time = *choice.chosen;
    return std::make_tuple(choice.times->policy, time.rows, time.cols, std::string(time.format),
                           time.activation_bits);
  };
  std::stable_sort(choices.begin(), choices.end(), [&](const Choice& a, const Choice& b) {
    return std::make_tuple(matrix(a), a.chosen->n_tokens) <
           std::make_tuple(matrix(b), b.chosen->n_tokens);
  });
  std::vector<TableRow> rows;
  for (size_t i = 0; i < choices.size(); ++i) {
    const flexq_kernel_time& kept = choices[i].kept();
    const bool goes_on = i > 0 && matrix(choices[i - 1]) == matrix(choices[i]) &&
                         std::string_view(rows.back().last.configuration) == kept.configuration;
    if (!goes_on) rows.push_back({choices[i].times, kept, kept});
    rows.back().last = kept;
  }
  return rows;
}

std::string token_range(const TableRow& row) {
  const std::string first = std::to_string(row.first.n_tokens);
  return row.first.n_tokens == row.last.n_tokens ? first
                                                 : first + "-" + std::to_string(row.last.n_tokens);
}

std::string shown(const Table& table, bool markdown) {
  return markdown ? "\n" + table.markdown() : table.text();
}

}  // namespace

std::string tuning_tables(const flexq_kernel_machine& machine,
                          const std::vector<KernelTimes>& results, bool markdown) {
  const std::vector<Choice> choices = choices_of(results);
  if (choices.empty()) return "none of these kernels leaves a choice\n" + machine_line(machine);
  Table losses(
      {"policy", "N x K", "format", "tokens", "FlexQ takes", "us", "fastest of", "", "us", "loss"});
  for (const Choice& choice : choices) {
    const flexq_kernel_time& chosen = *choice.chosen;
    losses.add({choice.times->policy, matrix_size(chosen), weight_format(chosen),
                std::to_string(chosen.n_tokens), chosen.configuration,
                fixed(chosen.microseconds, 2), std::to_string(choice.all.size()),
                choice.fastest->configuration, fixed(choice.fastest->microseconds, 2),
                fixed(100 * choice.loss(), 1) + "%"});
  }
  Table table({"policy", "N x K", "format", "tokens", "configuration", "us"});
  for (const TableRow& row : table_rows(choices)) {
    const std::string first_us = fixed(row.first.microseconds, 1);
    table.add({row.times->policy, matrix_size(row.first), weight_format(row.first),
               token_range(row), row.first.configuration,
               row.first.n_tokens == row.last.n_tokens
                   ? first_us
                   : first_us + "-" + fixed(row.last.microseconds, 1)});
  }
  return shown(losses, markdown) +
         "\nThe table that these times make, FlexQ's choice kept where it loses less than " +
         fixed(100 * kNoise, 0) + "%:\n" + shown(table, markdown) + "\n" + machine_line(machine);
}

nlohmann::ordered_json tuning_json(const flexq_kernel_machine& machine,
                                   const std::vector<KernelTimes>& results) {
  const std::vector<Choice> choices = choices_of(results);
  nlohmann::ordered_json json = machine_json(machine);
  json["tuning"] = nlohmann::ordered_json::array();
  for (const Choice& choice : choices) {
    nlohmann::ordered_json row = matrix_json(*choice.times, *choice.chosen);
    row["chosen"] = choice.chosen->configuration;
    row["fastest"] = choice.fastest->configuration;
    row["loss"] = choice.loss();
    row["microseconds"] = nlohmann::ordered_json::object();
    for (const flexq_kernel_time& time : choice.all)
      row["microseconds"][time.configuration] = time.microseconds;
    json["tuning"].push_back(std::move(row));
  }
  json["table"] = nlohmann::ordered_json::array();
  for (const TableRow& row : table_rows(choices)) {
    json["table"].push_back({{"policy", row.times->policy},
                             {"rows", row.first.rows},
                             {"cols", row.first.cols},
                             {"format", row.first.format},
                             {"activation_bits", row.first.activation_bits},
                             {"first_tokens", row.first.n_tokens},
                             {"last_tokens", row.last.n_tokens},
                             {"configuration", row.first.configuration}});
  }
  return json;
}

}  // namespace flexq_tool
