#include "accuracy_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "report_style.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 7> kProjections = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
constexpr std::array<const char*, 7> kShortNames = {"q", "k", "v", "o", "gate", "up", "down"};

std::string escaped(const std::string& text) {
  std::string html;
  for (const char c : one_line(text)) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

std::string percent(double part, int digits) {
  return fixed(100 * part, digits) + "&nbsp;%";
}

// A part in percent with the digits that tell small losses apart.
std::string small_percent(double part) {
  if (part == 0) return percent(part, 0);
  return percent(part, std::fabs(part) < 0.001 ? 4 : std::fabs(part) < 0.01 ? 3 : 2);
}

// One linear layer of the heat map.
struct Cell {
  int weight_bits = 0;
  int activation_bits = 0;
  int64_t stored_bytes = 0;
  std::map<std::string, double> metrics;
};

// Layers by number, projections in the order of kProjections; what is missing stays empty.
std::vector<std::array<Cell, 7>> read_cells(const Json& bundle) {
  std::map<std::string, std::map<std::string, double>> evidence;
  for (const Json& entry : bundle["provenance"]["evidence"])
    evidence[entry["tensor"]][entry["metric"]] = entry["value"];
  std::vector<std::array<Cell, 7>> cells(bundle["architecture"]["n_layers"].get<size_t>());
  for (const Json& layer : bundle["quantization"]["layers"]) {
    const std::string name = layer["name"];
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string prefix = "model.layers." + std::to_string(i) + ".";
      if (!name.starts_with(prefix)) continue;
      for (size_t kind = 0; kind < kProjections.size(); ++kind) {
        if (name != prefix + kProjections[kind] + ".weight") continue;
        Cell& cell = cells[i][kind];
        cell.weight_bits = layer["weight_bits"];
        cell.activation_bits = layer["activation_bits"];
        cell.stored_bytes = layer["stored_bytes"];
        cell.metrics = evidence[name];
      }
    }
  }
  return cells;
}

double metric_of(const Cell& cell, const char* name) {
  const auto found = cell.metrics.find(name);
  return found == cell.metrics.end() ? 0 : found->second;
}

std::string heat_map(const std::vector<std::array<Cell, 7>>& cells, bool calibrated) {
  double largest = 0;
  for (const auto& layer : cells)
    for (const Cell& cell : layer)
      largest = std::max(largest, metric_of(cell, "expected_rise_a6"));
  std::string html =
      "<section><h2>Layers</h2><p>" +
      std::string(calibrated
                      ? "Shade: what 6-bit activations cost in this layer alone (rise of the "
                        "perplexity to expect). Number: activation bits of the bundle."
                      : "Number: activation bits of the bundle. No calibration text was "
                        "given, so nothing was measured.") +
      "</p><div class=\"scroll\"><table class=\"heat\"><thead><tr><th>layer</th>";
  for (const char* name : kShortNames)
    html += "<th>" + std::string(name) + "</th>";
  html += "</tr></thead><tbody>";
  for (size_t i = 0; i < cells.size(); ++i) {
    html += "<tr><th>" + std::to_string(i) + "</th>";
    for (const Cell& cell : cells[i]) {
      const double rise = std::max(metric_of(cell, "expected_rise_a6"), 0.0);
      // The eye tells the square root's steps apart where a few layers cost most.
      const double shade = largest > 0 ? std::sqrt(rise / largest) : 0;
      const std::string bits = std::to_string(cell.activation_bits);
      // Where the figures have to change colour: early on the dark page, late on the light one.
      const char* const ink = shade > 0.85 ? " deep" : shade > 0.7 ? " mid" : "";
      html += "<td class=\"b" + bits + ink + "\" style=\"--s:" + fixed(shade, 3) + "\" title=\"" +
              bits + "-bit activations";
      if (calibrated) {
        html += "; alone at 6 bits: expected rise " +
                short_number(metric_of(cell, "expected_rise_a6"), 3) + ", measured " +
                short_number(metric_of(cell, "nll_rise_a6"), 3) + " nats, KL " +
                short_number(metric_of(cell, "kl_a6"), 3) + ", output error " +
                short_number(metric_of(cell, "output_error_a6"), 3) + ", largest input " +
                short_number(metric_of(cell, "input_max"), 3);
      }
      html += "\"><b>" + bits + "</b>";
      if (calibrated) html += "<small>" + fixed(100 * rise, 3) + "</small>";
      html += "</td>";
    }
    html += "</tr>";
  }
  html += "</tbody></table></div>";
  if (calibrated) html += "<p class=\"note\">Small figures: that rise in percent.</p>";
  return html + "</section>";
}

std::string policy_table(const Json& policies) {
  const double unquantized = policies.empty() ? 1 : policies[0].value("perplexity", 1.0);
  double most = 0;
  for (const Json& entry : policies)
    most = std::max(most, entry["expected_rise"].get<double>());
  std::string html =
      "<section><h2>Policies on the calibration text</h2><div class=\"scroll\"><table "
      "class=\"policies\"><thead><tr>"
      "<th>policy</th><th class=\"share\">8-bit work</th><th>perplexity</th><th>measured "
      "rise</th><th>expected "
      "rise</th><th class=\"bar\"></th><th>KL</th></tr></thead><tbody>";
  for (const Json& entry : policies) {
    const std::string name = entry.value("policy", "");
    const double expected = entry["expected_rise"];
    const bool has_activations = name != "unquantized" && !name.ends_with("a16");
    html += "<tr" + std::string(name == "auto" ? " class=\"chosen\"" : "") + "><th>" +
            escaped(name) + "</th><td class=\"share\">" +
            (has_activations ? percent(entry["a8_share"], 1) : std::string("&ndash;")) +
            "</td><td>" + fixed(entry["perplexity"], 4) + "</td><td>" +
            small_percent(entry["perplexity"].get<double>() / unquantized - 1) + "</td><td>" +
            small_percent(std::expm1(expected)) + "</td><td class=\"bar\"><i style=\"width:" +
            fixed(most > 0 ? 100 * std::max(expected, 0.0) / most : 0, 1) + "%\"></i></td><td>" +
            short_number(entry["kl_divergence"], 3) + "</td></tr>";
  }
  return html +
         "</tbody></table></div><p class=\"note\">Rises are over the unquantized model. The "
         "measured one is that of this text, which another text would show otherwise; the expected "
         "one is the mean over what the model, made as sure of itself as the text justifies, holds "
         "possible. Layers are chosen by the KL divergence of the logits.</p></section>";
}

// The curve of the best mixtures, with the fixed mixtures and the chosen one as points.
std::string front_chart(const Json& calibration) {
  constexpr double kWidth = 640, kHeight = 320, kLeft = 100, kRight = 36, kTop = 34, kBottom = 62;
  std::vector<std::pair<double, double>> line;
  struct Point {
    std::string name;
    double share, rise;
  };
  std::vector<Point> points;
  double most = 0;
  double least = 0;
  const auto note = [&](double rise) {
    most = std::max(most, rise);
    least = std::min(least, rise);
  };
  for (const Json& entry : calibration["front"]) {
    line.emplace_back(entry["a8_share"], std::expm1(entry["expected_rise"].get<double>()));
    note(line.back().second);
  }
  for (const Json& entry : calibration["policies"]) {
    const std::string name = entry.value("policy", "");
    if (name != "w6a6" && name != "flexq" && name != "w6a8" && name != "auto") continue;
    points.push_back({name, entry["a8_share"], std::expm1(entry["expected_rise"].get<double>())});
    note(points.back().rise);
  }
  if (most <= least) return "";
  const auto x = [&](double share) { return kLeft + share * (kWidth - kLeft - kRight); };
  const auto y = [&](double rise) {
    return kTop + (most - rise) / (most - least) * (kHeight - kTop - kBottom);
  };
  std::string svg =
      "<svg viewBox=\"0 0 640 320\" role=\"img\" aria-label=\"Expected rise of the "
      "perplexity by share of 8-bit work\">";
  for (int i = 0; i <= 4; ++i) {
    const double rise = least + (most - least) * i / 4;
    svg += "<line class=\"grid\" x1=\"" + fixed(kLeft, 0) + "\" x2=\"" + fixed(kWidth - kRight, 0) +
           "\" y1=\"" + fixed(y(rise), 1) + "\" y2=\"" + fixed(y(rise), 1) +
           "\"/><text class=\"tick\" text-anchor=\"end\" x=\"" + fixed(kLeft - 14, 0) + "\" y=\"" +
           fixed(y(rise) + 4, 1) + "\">" + fixed(100 * rise, 2) +
           " %</text><text class=\"tick\" "
           "text-anchor=\"middle\" x=\"" +
           fixed(x(i / 4.0), 1) + "\" y=\"" + fixed(kHeight - kBottom + 28, 0) + "\">" +
           std::to_string(25 * i) + " %</text>";
  }
  svg += "<text class=\"tick\" text-anchor=\"middle\" x=\"" + fixed((kLeft + kWidth) / 2, 0) +
         "\" y=\"" + fixed(kHeight - 8, 0) + "\">share of work with 8-bit activations</text>";
  std::string path;
  for (const auto& [share, rise] : line)
    path += (path.empty() ? "M" : "L") + fixed(x(share), 1) + " " + fixed(y(rise), 1);
  svg += "<path class=\"front\" d=\"" + path + "\"/>";
  for (const auto& [share, rise] : line)
    svg += "<circle class=\"dot\" r=\"3\" cx=\"" + fixed(x(share), 1) + "\" cy=\"" +
           fixed(y(rise), 1) + "\"/>";
  for (const Point& point : points) {
    const bool chosen = point.name == "auto";
    // The chosen point lies on a falling curve, below the fixed rule: its name goes below and,
    // where there is room, to the left; the others' above and, up to the edge, to the right.
    const bool at_left = point.share > (chosen ? 0.15 : 0.8);
    svg += "<circle class=\"" + std::string(chosen ? "chosen" : "fixed") + "\" r=\"6\" cx=\"" +
           fixed(x(point.share), 1) + "\" cy=\"" + fixed(y(point.rise), 1) +
           "\"/><text class=\"label\" text-anchor=\"" + (at_left ? "end" : "start") + "\" x=\"" +
           fixed(x(point.share) + (at_left ? -10 : 10), 1) + "\" y=\"" +
           fixed(y(point.rise) + (chosen ? 20 : -8), 1) + "\">" + escaped(point.name) + "</text>";
  }
  return "<section><h2>What 8-bit work buys</h2>" + svg +
         "</svg><p class=\"note\">Expected rise of the perplexity over the unquantized model. "
         "Line: "
         "the best mixtures found; points: fixed policies and the choice.</p></section>";
}

std::string size_table(const Json& bundle, const std::vector<std::array<Cell, 7>>& cells) {
  std::string html =
      "<section><h2>Sizes</h2><div class=\"scroll\"><table><thead><tr><th>part</th>"
      "<th>weight bits</th><th>in the file</th></tr></thead><tbody>";
  for (size_t kind = 0; kind < kProjections.size(); ++kind) {
    int64_t bytes = 0;
    for (const auto& layer : cells)
      bytes += layer[kind].stored_bytes;
    html += "<tr><th>" + std::string(kProjections[kind]) + "</th><td>" +
            std::to_string(cells.empty() ? 0 : cells[0][kind].weight_bits) + "</td><td>" +
            format_bytes(bytes) + "</td></tr>";
  }
  int64_t others = 0;
  for (const Json& tensor : bundle["tensors"])
    others += tensor["stored_bytes"].get<int64_t>();
  return html + "<tr><th>embedding, lm_head, norms</th><td>&ndash;</td><td>" +
         format_bytes(others) +
         "</td></tr><tr class=\"chosen\"><th>whole file</th><td>&ndash;</td><td>" +
         format_bytes(bundle["size_bytes"]) + "</td></tr></tbody></table></div></section>";
}

std::string tile(const std::string& value, const std::string& name) {
  return "<div class=\"tile\"><b>" + value + "</b><span>" + name + "</span></div>";
}

// What the page is about in a few figures.
std::string tiles(const Json& bundle, const Json& calibration) {
  std::string html = "<div class=\"tiles\">";
  html += tile(format_bytes(bundle["size_bytes"]), "bundle");
  if (const double bits = bundle["bits_per_weight"]; bits > 0)
    html += tile(fixed(bits, 2), "bits per weight on disk");
  if (calibration.is_object()) {
    const std::string policy = bundle["quantization"]["policy"];
    for (const Json& entry : calibration["policies"]) {
      if (entry.value("policy", "") != policy) continue;
      const double unquantized = calibration["policies"][0]["perplexity"];
      html += tile(percent(entry["a8_share"], 1), "of the work on 8-bit activations");
      html +=
          tile(fixed(entry["perplexity"], 3), "perplexity, unquantized " + fixed(unquantized, 3));
    }
  }
  return html + "</div>";
}

bool is_equalized(const Json& bundle) {
  const Json& evidence = bundle["provenance"]["evidence"];
  return std::any_of(evidence.begin(), evidence.end(),
                     [](const Json& entry) { return entry["metric"] == "equalized_channels"; });
}

// The goal in words, and what it was measured on.
std::string goal_text(const Json& bundle, const Json& calibration) {
  const std::string goal = calibration.value("goal", "");
  const double value = calibration.value("goal_value", 0.0);
  std::string text;
  if (goal == "perplexity_budget")
    text = "Goal: perplexity at most " + small_percent(value) +
           " above that of unquantized activations, with the least 8-bit work. ";
  if (goal == "a8_fraction")
    text = "Goal: the least loss with at most " + percent(value, 2) + " of the work at 8 bits. ";
  if (!calibration.value("goal_met", true)) text += "<strong>The goal was not met.</strong> ";
  text += "Measured on " + std::to_string(calibration.value("n_windows", 0)) + " windows of " +
          std::to_string(calibration.value("window_tokens", 0)) + " tokens.";
  if (is_equalized(bundle))
    text +=
        " Channels are equalized: the policies were measured with equalized weights, single layers "
        "as they came.";
  return text;
}

}  // namespace

std::string report_page(const Json& bundle) {
  const Json calibration = bundle["provenance"].value("calibration", Json());
  const bool calibrated = calibration.is_object();
  const auto cells = read_cells(bundle);
  const std::string title = escaped(bundle["provenance"].value("source", "")) + ", policy " +
                            escaped(bundle["quantization"].value("policy", ""));
  std::string html =
      "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>FlexQ: " +
      title + "</title><style>" + kReportStyle +
      "</style></head><body><main><header><p>FlexQ "
      "accuracy report</p><h1>" +
      title + "</h1>";
  if (calibrated) html += "<p>" + goal_text(bundle, calibration) + "</p>";
  html += "</header>" + tiles(bundle, calibration) + heat_map(cells, calibrated);
  if (calibrated) html += policy_table(calibration["policies"]) + front_chart(calibration);
  html += size_table(bundle, cells) + "<footer>" +
          escaped(bundle["provenance"].value("tool_version", "")) +
          "</footer></main></body></html>\n";
  return html;
}

std::string calibration_text(const Json& calibration) {
  if (!calibration.is_object()) return "";
  Table table({"policy", "8-bit work", "perplexity", "expected rise", "KL"});
  for (const Json& entry : calibration["policies"])
    table.add({entry.value("policy", ""), fixed(100 * entry["a8_share"].get<double>(), 1) + " %",
               fixed(entry["perplexity"], 4),
               fixed(100 * std::expm1(entry["expected_rise"].get<double>()), 4) + " %",
               short_number(entry["kl_divergence"])});
  return "measured on " + std::to_string(calibration.value("n_windows", 0)) + " windows of " +
         std::to_string(calibration.value("window_tokens", 0)) +
         " tokens of the calibration text:\n" + table.text();
}

}  // namespace flexq_tool
