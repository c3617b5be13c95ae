#include "device/cpu/cpu_device.h"

#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstring>

#include "base/checked.h"
#include "base/half.h"
#include "base/memory.h"
#include "device/cpu/cpu_executor.h"
#include "device/cpu/cpu_workspace.h"
#include "kernels/layout/w6_layout.h"
#include "kernels/layout/w8_layout.h"

namespace flexq {
namespace {

class HostDeviceBuffer : public DeviceBuffer {
 public:
  explicit HostDeviceBuffer(HostBuffer buffer) : buffer_(std::move(buffer)) {}
  uint8_t* data() override { return buffer_.data(); }
  int64_t size() const override { return buffer_.size(); }

 private:
  HostBuffer buffer_;
};

// Asks for 2 MiB pages where they fit into the buffer: a decode step walks through all weights
// once, and with 4 KiB pages a fifth of its time goes into finding them. Advice, so its failure is
// none.
void advise_huge_pages(const HostBuffer& buffer) {
  constexpr uintptr_t kHugePageBytes = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(buffer.data());
  const uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const uintptr_t last = (begin + static_cast<uintptr_t>(buffer.size())) & ~(kHugePageBytes - 1);
  if (first < last) (void)madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

#if defined(__x86_64__)
// The brand string: leaves 0x80000002..4, 16 bytes each (Intel SDM, CPUID).
struct BrandString {
  char text[49] = {};

  BrandString() {
    unsigned int words[12] = {};
    for (unsigned int leaf = 0; leaf < 3; ++leaf) {
      if (__get_cpuid(0x80000002u + leaf, &words[4 * leaf], &words[4 * leaf + 1],
                      &words[4 * leaf + 2], &words[4 * leaf + 3]) == 0) {
        strcpy(text, "x86-64 processor");
        return;
      }
    }
    memcpy(text, words, sizeof words);
  }
};
#endif

std::string processor_name() {
#if defined(__x86_64__)
  // Asked for once: in a virtual machine CPUID is a trap into the hypervisor.
  static const BrandString brand;
  const char* begin = brand.text;
  while (*begin == ' ')
    ++begin;
  return begin;
#else
  return "processor";
#endif
}

// Where the scales lie behind the codes of a quantized tensor, and how long they are.
struct QuantizedSizes {
  int64_t scales_offset;
  int64_t scales_bytes;
};
QuantizedSizes quantized_sizes(const DeviceTensorDesc& desc) {
  const int64_t rows = desc.rows;
  const int64_t cols = desc.cols;
  switch (desc.format) {
    case WeightFormat::kInt6Group:
      return {align_up(w6::codes_bytes(rows, cols), kDeviceAlignment),
              w6::scales_bytes(rows, cols)};
    case WeightFormat::kInt8Group:
      return {align_up(w8::codes_bytes(rows, cols), kDeviceAlignment),
              w8::scales_bytes(rows, cols)};
    default:
      return {align_up(rows * cols, kDeviceAlignment), rows * int64_t{sizeof(float)}};
  }
}

}  // namespace

DeviceDescription CpuDevice::describe() const {
  DeviceDescription description;
  description.kind = DeviceKind::kCpu;
  description.id = "cpu";
  description.name = processor_name();
  description.kernels = kernels_.name;
  const int64_t page = sysconf(_SC_PAGESIZE);
  description.total_memory_bytes = page * sysconf(_SC_PHYS_PAGES);
  description.free_memory_bytes = page * sysconf(_SC_AVPHYS_PAGES);
  description.n_threads = available_cpus();
  return description;
}

Result<std::unique_ptr<DeviceBuffer>> CpuDevice::allocate(int64_t bytes, const char* what) {
  FLEXQ_ASSIGN_OR_RETURN(HostBuffer buffer, HostBuffer::allocate(bytes, what));
  advise_huge_pages(buffer);
  return std::unique_ptr<DeviceBuffer>(std::make_unique<HostDeviceBuffer>(std::move(buffer)));
}

Result<int64_t> CpuDevice::tensor_bytes(const DeviceTensorDesc& desc) const {
  // Padded to whole units, so that w6::codes_bytes below cannot wrap when this does not.
  CheckedSize elements(desc.rows);
  elements.align_up(w6::kUnitRows).mul(align_up(desc.cols, w6::kGroupSize)).mul(4);
  if (!elements.valid()) {
    return Status::error(StatusCode::kLimitExceeded, "a tensor of %lld x %lld does not fit memory",
                         static_cast<long long>(desc.rows), static_cast<long long>(desc.cols));
  }
  if (is_quantized(desc.format)) {
    const QuantizedSizes sizes = quantized_sizes(desc);
    return sizes.scales_offset + align_up(sizes.scales_bytes, kDeviceAlignment);
  }
  const int64_t bytes = desc.is_vector ? 4 : element_bytes(desc.format);
  return align_up(desc.rows * desc.cols * bytes, kDeviceAlignment);
}

Status CpuDevice::store_rows(const DeviceTensorDesc& desc, int64_t row_begin, int64_t n_rows,
                             const uint8_t* values, const uint16_t* scales, uint8_t* destination) {
  const int64_t n = n_rows * desc.cols;
  if (is_quantized(desc.format)) {
    const auto* codes = reinterpret_cast<const int8_t*>(values);
    uint8_t* packed_scales = destination + quantized_sizes(desc).scales_offset;
    auto* half_scales = reinterpret_cast<uint16_t*>(packed_scales);
    if (desc.format == WeightFormat::kInt6Group) {
      w6::pack_w6_rows(codes, scales, row_begin, n_rows, desc.rows, desc.cols, destination,
                       half_scales);
    } else if (desc.format == WeightFormat::kInt8Group) {
      w8::pack_w8_rows(codes, scales, row_begin, n_rows, desc.rows, desc.cols, destination,
                       half_scales);
    } else {
      memcpy(destination + row_begin * desc.cols, codes, static_cast<size_t>(n));
      auto* row_scales = reinterpret_cast<float*>(packed_scales) + row_begin;
      for (int64_t i = 0; i < n_rows; ++i)
        row_scales[i] = half_to_float(scales[i]) * desc.scale_multiplier;
    }
  } else if (desc.is_vector && desc.format != WeightFormat::kF32) {
    float* out = reinterpret_cast<float*>(destination) + row_begin * desc.cols;
    const auto* in = reinterpret_cast<const uint16_t*>(values);
    desc.format == WeightFormat::kF16 ? kernels_.half_to_float(in, n, out)
                                      : kernels_.bf16_to_float(in, n, out);
  } else {
    const int64_t row_bytes = desc.cols * element_bytes(desc.format);
    memcpy(destination + row_begin * row_bytes, values, static_cast<size_t>(n_rows * row_bytes));
  }
  return Status();
}

Status CpuDevice::copy(uint8_t* to, const uint8_t* from, int64_t bytes) {
  memcpy(to, from, static_cast<size_t>(bytes));
  return Status();
}

DeviceMatrix CpuDevice::matrix_at(const DeviceTensorDesc& desc, const uint8_t* data) const {
  DeviceMatrix matrix;
  matrix.format = desc.is_vector ? WeightFormat::kF32 : desc.format;
  matrix.rows = desc.rows;
  matrix.cols = desc.cols;
  matrix.values = data;
  matrix.scale_multiplier = desc.scale_multiplier;
  if (is_quantized(desc.format)) matrix.scales = data + quantized_sizes(desc).scales_offset;
  return matrix;
}

Result<int64_t> CpuDevice::workspace_bytes(const ExecutorShape& shape) const {
  return carve_cpu_workspace(shape, nullptr, nullptr);
}

Result<std::unique_ptr<Executor>> CpuDevice::create_executor(const ExecutorShape& shape,
                                                             std::span<uint8_t> workspace,
                                                             std::span<uint8_t> pages,
                                                             ThreadPool& pool) {
  CpuWorkspace buffers;
  FLEXQ_ASSIGN_OR_RETURN(const int64_t needed,
                         carve_cpu_workspace(shape, workspace.data(), &buffers));
  if (static_cast<int64_t>(workspace.size()) < needed) {
    return Status::error(StatusCode::kInvalidArgument, "workspace: expected %lld bytes, found %lld",
                         static_cast<long long>(needed), static_cast<long long>(workspace.size()));
  }
  return std::unique_ptr<Executor>(
      std::make_unique<CpuExecutor>(kernels_, shape, buffers, needed, pages, pool));
}

}  // namespace flexq
