// What a bundle says about its own accuracy, for people: one HTML page without any other file, and
// a few lines for the terminal.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace flexq_tool {

// bundle: the object of flexq_bundle_json. The page has a heat map of all linear layers with the
// bits of their activations; where the bundle was calibrated also what every policy loses, the
// curve of the best mixtures, and how each layer was judged.
std::string report_page(const nlohmann::json& bundle);

// provenance.calibration as a table of policies; "" for anything but an object.
std::string calibration_text(const nlohmann::json& calibration);

}  // namespace flexq_tool
