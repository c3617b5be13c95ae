// flexq inspect: what a bundle says about itself.
#include <algorithm>
#include <map>
#include <vector>

#include "accuracy_report.h"
#include "commands.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

using Json = nlohmann::ordered_json;

struct InspectCommand {
  CommonOptions common;
  std::string bundle;
  bool all_layers = false;
};

// A value of the bundle's JSON for people: sizes with units, strings without quotes.
std::string value_text(const Json& value, const std::string& key) {
  if (value.is_number_integer() && key.ends_with("_bytes")) {
    return format_bytes(value.get<int64_t>());
  }
  if (value.is_number_float()) return short_number(value.get<double>());
  const std::string text = value.is_string()
                               ? value.get<std::string>()
                               : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return one_line(text);
}

// "key: value" lines, members of an object indented under its name. What does not fit on a line is
// left to the tables and to --json.
std::string summary_text(const Json& bundle) {
  constexpr size_t kMaxValueBytes = 100;
  std::string text;
  for (const auto& [key, value] : bundle.items()) {
    if (value.is_object()) {
      text += key + ":\n";
      for (const auto& [inner_key, inner] : value.items()) {
        const std::string line = value_text(inner, inner_key);
        if (line.size() <= kMaxValueBytes) text += "  " + inner_key + ": " + line + "\n";
      }
    } else if (const std::string line = value_text(value, key); line.size() <= kMaxValueBytes) {
      text += key + ": " + line + "\n";
    }
  }
  return text;
}

// "model.layers.*.mlp.down_proj" for "model.layers.17.mlp.down_proj": whole-number parts of the
// name become a star.
std::string collapsed_name(const std::string& name) {
  std::string collapsed;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool is_number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    collapsed += (begin > 0 ? "." : "") + (is_number ? "*" : part);
    begin = end + 1;
  }
  return collapsed;
}

// Layers of one row of the table.
struct LayerGroup {
  std::string name;
  std::vector<const Json*> layers;
};

// One cell: sizes are added up, other values listed where they differ.
std::string cell_text(const LayerGroup& group, const std::string& key) {
  if (key.ends_with("_bytes")) {
    int64_t sum = 0;
    for (const Json* layer : group.layers)
      sum += layer->value(key, int64_t{0});
    return format_bytes(sum);
  }
  std::vector<std::string> values;
  for (const Json* layer : group.layers) {
    const std::string value = layer->contains(key) ? value_text((*layer)[key], key) : "";
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  std::sort(values.begin(), values.end());
  std::string text;
  for (const std::string& value : values)
    text += (text.empty() ? "" : "/") + value;
  return text;
}

// A table of layers or other tensors: objects with a name, whose other members are the columns.
std::string layers_text(const std::string& title, const Json& layers, bool all_layers) {
  if (!layers.is_array() || layers.empty()) return "";
  std::vector<LayerGroup> groups;
  std::map<std::string, size_t> group_of_name;
  for (const Json& layer : layers) {
    const std::string full_name = layer.value("name", "");
    const std::string name = all_layers ? full_name : collapsed_name(full_name);
    const auto [found, is_new] = group_of_name.try_emplace(name, groups.size());
    if (is_new) groups.push_back({one_line(name), {}});
    groups[found->second].layers.push_back(&layer);
  }
  std::vector<std::string> keys;
  for (const auto& member : layers.front().items()) {
    if (member.key() != "name") keys.push_back(member.key());
  }
  std::vector<std::string> header = {title, "count"};
  header.insert(header.end(), keys.begin(), keys.end());
  Table table(header);
  for (const LayerGroup& group : groups) {
    std::vector<std::string> row = {group.name, std::to_string(group.layers.size())};
    for (const std::string& key : keys)
      row.push_back(cell_text(group, key));
    table.add(row);
  }
  return "\n" + table.text();
}

// What was measured when the bundle was made; "" where nothing was.
std::string measured_text(const Json& bundle) {
  const nlohmann::json provenance = bundle.value("provenance", Json::object());
  const std::string text = calibration_text(provenance.value("calibration", nlohmann::json()));
  return text.empty() ? "" : "\n" + text;
}

int inspect(const InspectCommand& command) {
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk)
    return code;
  std::string text;
  if (const int code = read_bundle_json(command.bundle, bundle, text); code != kExitOk) return code;
  if (command.common.json) return print(text + "\n");
  const Json json = Json::parse(text, nullptr, false);
  const Json quantization = json.value("quantization", Json::object());
  return print(
      summary_text(json) +
      layers_text("linear layers", quantization.value("layers", Json::array()),
                  command.all_layers) +
      layers_text("other tensors", json.value("tensors", Json::array()), command.all_layers) +
      measured_text(json));
}

}  // namespace

void add_inspect_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* app = parent.add_subcommand("inspect", "Show what a bundle contains");
  app->add_option("MODEL", command->bundle, "Bundle (*.flexq)")->required()->type_name("");
  app->add_flag("--layers", command->all_layers,
                "One row for every layer, not for every kind of layer");
  add_common_options(*app, command->common);
  add_public_key_option(*app, command->common);
  app->footer(
      "Checks the bundle's directory; flexq verify checks the weights too.\n"
      "Examples:\n"
      "  flexq inspect llama-2-7b.flexq\n"
      "  flexq inspect llama-2-7b.flexq --json\n"
      "JSON: {\"format_version\", \"signature\", \"architecture\", \"quantization\", "
      "\"size_bytes\",\n"
      "\"bits_per_weight\", \"tokenizer\", \"provenance\"}; provenance has the calibration's "
      "figures\n"
      "for every layer and policy, where there was one");
  app->callback([command, &selected] { selected = [command] { return inspect(*command); }; });
}

}  // namespace flexq_tool
