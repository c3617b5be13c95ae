#include "device/cuda/cuda_staging.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/half.h"

namespace flexq {
namespace {

// What most pieces need with their padding, so that buffers are seldom replaced by larger ones.
constexpr int64_t kLeastSlotBytes = int64_t{4} << 20;

// Copies rows of n_bytes to rows of stored_bytes that end in zeros.
void copy_padded(const uint8_t* from, int64_t n_rows, int64_t n_bytes, int64_t stored_bytes,
                 uint8_t* to) {
  for (int64_t row = 0; row < n_rows; ++row) {
    uint8_t* out = to + row * stored_bytes;
    memcpy(out, from + row * n_bytes, static_cast<size_t>(n_bytes));
    memset(out + n_bytes, 0, static_cast<size_t>(stored_bytes - n_bytes));
  }
}

// n elements of a dense format as fp32.
void widen(WeightFormat format, const uint8_t* from, int64_t n, float* to) {
  if (format == WeightFormat::kF32) {
    memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const auto* bits = reinterpret_cast<const uint16_t*>(from);
  for (int64_t i = 0; i < n; ++i)
    to[i] = format == WeightFormat::kF16 ? half_to_float(bits[i]) : bf16_to_float(bits[i]);
}

}  // namespace

Result<std::unique_ptr<CudaStaging::Slot>> CudaStaging::take_slot(int64_t host_bytes,
                                                                  int64_t device_bytes) {
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  std::unique_ptr<Slot> slot;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      slot = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (slot == nullptr) {
    slot = std::make_unique<Slot>();
    FLEXQ_ASSIGN_OR_RETURN(slot->stream, CudaStream::create(session_));
  } else {
    FLEXQ_RETURN_IF_ERROR(slot->stream.synchronize("storing weights"));
  }
  if (slot->host.size() < host_bytes) {
    slot->host = PinnedBuffer();
    FLEXQ_ASSIGN_OR_RETURN(slot->host,
                           PinnedBuffer::allocate(session_, std::max(host_bytes, kLeastSlotBytes),
                                                  "pinned staging of weights"));
  }
  if (device_bytes > 0 && (slot->device == nullptr || slot->device->size() < device_bytes)) {
    slot->device.reset();
    FLEXQ_ASSIGN_OR_RETURN(slot->device,
                           CudaBuffer::allocate(session_, std::max(device_bytes, kLeastSlotBytes),
                                                "device staging of weights"));
  }
  return slot;
}

Status CudaStaging::send(const Slot& slot, const Transfer& transfer) {
  return session_->check(session_->runtime().memcpy_async(
                             transfer.to, transfer.from, static_cast<size_t>(transfer.bytes),
                             cudaMemcpyHostToDevice, slot.stream.get()),
                         "copying weights to the device");
}

Status CudaStaging::store(const DeviceTensorDesc& desc, const CudaTensorLayout& layout,
                          int64_t row_begin, int64_t n_rows, const uint8_t* values,
                          const uint16_t* scales, uint8_t* destination) {
  if (n_rows == 0) return Status();
  // Codes or elements, and behind them scales of two or four bytes.
  const int64_t element = desc.is_vector ? int64_t{sizeof(float)} : element_bytes(desc.format);
  const int64_t n_scales = n_rows * scales_per_row(desc.format, desc.cols);
  const int64_t bytes =
      align_up(n_rows * cuda_padded_cols(desc.cols) * element, kCudaTensorAlignment) +
      n_scales * int64_t{sizeof(float)};
  FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<Slot> slot,
                         take_slot(bytes, is_grouped(desc.format) ? bytes : 0));
  Status status = store_in(*slot, desc, layout, row_begin, n_rows, values, scales, destination);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(slot));
  return status;
}

Status CudaStaging::store_in(Slot& slot, const DeviceTensorDesc& desc,
                             const CudaTensorLayout& layout, int64_t row_begin, int64_t n_rows,
                             const uint8_t* values, const uint16_t* scales, uint8_t* destination) {
  uint8_t* host = slot.host.data();
  if (desc.is_vector) {
    widen(desc.format, values, n_rows * desc.cols, reinterpret_cast<float*>(host));
    const int64_t row_bytes = desc.cols * int64_t{sizeof(float)};
    return send(slot, {host, destination + row_begin * row_bytes, n_rows * row_bytes});
  }
  if (is_grouped(desc.format)) {
    return pack(slot, desc, layout, row_begin, n_rows, values, scales, destination);
  }
  const int64_t element = element_bytes(desc.format);
  const int64_t stored_bytes = cuda_stored_cols(desc) * element;
  copy_padded(values, n_rows, desc.cols * element, stored_bytes, host);
  FLEXQ_RETURN_IF_ERROR(
      send(slot, {host, destination + row_begin * stored_bytes, n_rows * stored_bytes}));
  if (desc.format != WeightFormat::kInt8Row) return Status();
  auto* row_scales =
      reinterpret_cast<float*>(host + align_up(n_rows * stored_bytes, kCudaTensorAlignment));
  for (int64_t i = 0; i < n_rows; ++i)
    row_scales[i] = half_to_float(scales[i]) * desc.scale_multiplier;
  const int64_t scale_bytes = int64_t{sizeof(float)};
  return send(slot,
              {reinterpret_cast<const uint8_t*>(row_scales),
               destination + layout.scales_offset + row_begin * scale_bytes, n_rows * scale_bytes});
}

Status CudaStaging::pack(Slot& slot, const DeviceTensorDesc& desc, const CudaTensorLayout& layout,
                         int64_t row_begin, int64_t n_rows, const uint8_t* values,
                         const uint16_t* scales, uint8_t* destination) {
  const int64_t codes_bytes = n_rows * desc.cols;
  const int64_t scales_begin = align_up(codes_bytes, kCudaTensorAlignment);
  const int64_t scales_bytes =
      n_rows * scales_per_row(desc.format, desc.cols) * int64_t{sizeof(uint16_t)};
  memcpy(slot.host.data(), values, static_cast<size_t>(codes_bytes));
  memcpy(slot.host.data() + scales_begin, scales, static_cast<size_t>(scales_bytes));
  FLEXQ_RETURN_IF_ERROR(
      send(slot, {slot.host.data(), slot.device->data(), scales_begin + scales_bytes}));
  const uint8_t* staged = slot.device->data();
  return session_->check(
      cuda_pack_rows(session_->launch_on(slot.stream.get()), desc.format, layout.family,
                     reinterpret_cast<const int8_t*>(staged),
                     reinterpret_cast<const uint16_t*>(staged + scales_begin), row_begin, n_rows,
                     desc.rows, desc.cols, destination, destination + layout.scales_offset),
      "packing weights");
}

Status CudaStaging::finish() {
  std::vector<std::unique_ptr<Slot>> slots;
  {
    const std::lock_guard lock(mutex_);
    slots.swap(idle_);
  }
  if (slots.empty()) return Status();
  FLEXQ_RETURN_IF_ERROR(session_->enter());
  for (const auto& slot : slots)
    FLEXQ_RETURN_IF_ERROR(slot->stream.synchronize("storing weights"));
  return Status();
}

}  // namespace flexq
