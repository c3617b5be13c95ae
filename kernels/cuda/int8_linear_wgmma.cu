// The shapes of the wgmma kernel that select_linear() may choose.
#include "kernels/cuda/int8_linear_wgmma.cuh"

namespace flexq {
namespace {

WgmmaArgs wgmma_args(std::span<const CudaLinearPart> parts, CudaQuantized x, int64_t n_tokens,
                     CudaStore store) {
  WgmmaArgs args = {};
  args.x_scales = x.scales;
  args.store = store;
  args.n_parts = static_cast<int32_t>(parts.size());
  args.n_groups = static_cast<int32_t>(cuda_int8::n_groups(parts.front().w.cols));
  args.n_tokens = static_cast<int32_t>(n_tokens);
  for (size_t i = 0; i < parts.size(); ++i) {
    const CudaMatrix& w = parts[i].w;
    WgmmaPart& part = args.parts[i];
    part.codes = w.values;
    part.scales = reinterpret_cast<const uint16_t*>(w.scales);
    part.bias = parts[i].bias;
    part.out = parts[i].out.data;
    part.out_stride = parts[i].out.stride;
    // 6-bit codes enter the products as 4 * q; a quarter of a power of two is exact.
    part.multiplier = weight_bits(w.format) == 6 ? w.scale_multiplier * 0.25f : w.scale_multiplier;
    part.n_rows = static_cast<int32_t>(w.rows);
    part.first_slot = args.n_slots;
    const auto blocks = static_cast<int32_t>(cuda_int8::n_blocks(w.rows));
    if (store != CudaStore::kSiluMul || i == 0) args.n_slots += blocks;
  }
  return args;
}

template <WgmmaTile kTile>
cudaError_t launch_tile(const CudaLaunch& launch, const WgmmaArgs& args, const int8_t* x_codes,
                        int32_t bits) {
  constexpr WgmmaShape kShape = wgmma_shape(kTile);
  return bits == 6 ? launch_wgmma<6, kShape>(launch, args, x_codes)
                   : launch_wgmma<8, kShape>(launch, args, x_codes);
}

}  // namespace

cudaError_t int8_linear_wgmma(const CudaLaunch& launch, std::span<const CudaLinearPart> parts,
                              CudaQuantized x, int64_t n_tokens, CudaStore store, WgmmaTile tile) {
  const WgmmaArgs args = wgmma_args(parts, x, n_tokens, store);
  const int32_t bits = weight_bits(parts.front().w.format);
  switch (tile) {
    case WgmmaTile::kWalk64x16:
      return launch_tile<WgmmaTile::kWalk64x16>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk64x32:
      return launch_tile<WgmmaTile::kWalk64x32>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk64x64:
      return launch_tile<WgmmaTile::kWalk64x64>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk64x128:
      return launch_tile<WgmmaTile::kWalk64x128>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk128x16:
      return launch_tile<WgmmaTile::kWalk128x16>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk128x32:
      return launch_tile<WgmmaTile::kWalk128x32>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk128x64:
      return launch_tile<WgmmaTile::kWalk128x64>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk192x16:
      return launch_tile<WgmmaTile::kWalk192x16>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk192x32:
      return launch_tile<WgmmaTile::kWalk192x32>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk192x64:
      return launch_tile<WgmmaTile::kWalk192x64>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk256x16:
      return launch_tile<WgmmaTile::kWalk256x16>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk256x32:
      return launch_tile<WgmmaTile::kWalk256x32>(launch, args, x.codes, bits);
    case WgmmaTile::kWalk256x64:
      return launch_tile<WgmmaTile::kWalk256x64>(launch, args, x.codes, bits);
    case WgmmaTile::kTile128x64:
      return launch_tile<WgmmaTile::kTile128x64>(launch, args, x.codes, bits);
    case WgmmaTile::kTile128x128:
      return launch_tile<WgmmaTile::kTile128x128>(launch, args, x.codes, bits);
    case WgmmaTile::kTile192x128:
      return launch_tile<WgmmaTile::kTile192x128>(launch, args, x.codes, bits);
    case WgmmaTile::kTile128x256:
      return launch_tile<WgmmaTile::kTile128x256>(launch, args, x.codes, bits);
    case WgmmaTile::kPair128x256:
      return launch_tile<WgmmaTile::kPair128x256>(launch, args, x.codes, bits);
  }
  return cudaErrorInvalidValue;
}

}  // namespace flexq
