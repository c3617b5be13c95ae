// wiki-tiny-1m with outlier channels planted in it: the same function, harder to quantize.
#pragma once

#include <array>
#include <string>

namespace flexq::test {

// Where: an FFN channel of two layers is 16 times larger (rows of up_proj) and as much smaller
// behind (columns of down_proj); a value channel of a third likewise (v_proj, o_proj).
inline constexpr std::array<int, 2> kPlantedFfnLayers = {0, 1};
inline constexpr int kPlantedValueLayer = 2;

// Writes the checkpoint into an existing folder. Powers of two: no weight is rounded.
void write_planted_checkpoint(const std::string& directory);

}  // namespace flexq::test
