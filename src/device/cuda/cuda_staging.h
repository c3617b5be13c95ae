// Brings rows of tensors from host memory into device memory: through pinned memory, on streams of
// its own, packed by the device. Safe from several threads.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "device/cuda/cuda_buffer.h"
#include "device/cuda/cuda_tensor.h"

namespace flexq {

class CudaStaging {
 public:
  explicit CudaStaging(std::shared_ptr<CudaSession> session) : session_(std::move(session)) {}

  // Queues rows for their place in the tensor at `destination`, as Device::store_rows.
  Status store(const DeviceTensorDesc& desc, const CudaTensorLayout& layout, int64_t row_begin,
               int64_t n_rows, const uint8_t* values, const uint16_t* scales, uint8_t* destination);
  // Waits for all that was queued and gives the staging memory back.
  Status finish();

 private:
  // Staging memory of one thread; its stream may still read from it.
  struct Slot {
    PinnedBuffer host;
    std::unique_ptr<CudaBuffer> device;  // what cuda_pack_rows reads
    CudaStream stream;                   // the last member: its destructor waits
  };
  // Rows as they go: bytes in host memory, and where each part of them belongs.
  struct Transfer {
    const uint8_t* from;
    uint8_t* to;
    int64_t bytes;
  };
  Result<std::unique_ptr<Slot>> take_slot(int64_t host_bytes, int64_t device_bytes);
  Status store_in(Slot& slot, const DeviceTensorDesc& desc, const CudaTensorLayout& layout,
                  int64_t row_begin, int64_t n_rows, const uint8_t* values, const uint16_t* scales,
                  uint8_t* destination);
  Status pack(Slot& slot, const DeviceTensorDesc& desc, const CudaTensorLayout& layout,
              int64_t row_begin, int64_t n_rows, const uint8_t* values, const uint16_t* scales,
              uint8_t* destination);
  Status send(const Slot& slot, const Transfer& transfer);

  std::shared_ptr<CudaSession> session_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Slot>> idle_;
};

}  // namespace flexq
