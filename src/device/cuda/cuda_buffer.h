// Owners of what the CUDA runtime hands out: device memory, pinned host memory, streams, events.
// Destructors leave device memory and handles alone where the device is lost or the process forked.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "device/cuda/cuda_session.h"
#include "device/device.h"

namespace flexq {

class CudaBuffer : public DeviceBuffer {
 public:
  // `what` is a string literal for out-of-memory messages.
  static Result<std::unique_ptr<CudaBuffer>> allocate(std::shared_ptr<CudaSession> session,
                                                      int64_t bytes, const char* what);
  ~CudaBuffer() override;
  uint8_t* data() override { return data_; }
  int64_t size() const override { return size_; }

 private:
  CudaBuffer(std::shared_ptr<CudaSession> session, uint8_t* data, int64_t size)
      : session_(std::move(session)), data_(data), size_(size) {}

  std::shared_ptr<CudaSession> session_;
  uint8_t* data_;
  int64_t size_;
};

// Page-locked host memory, which the device copies from and to without the host's help.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PinnedBuffer();
  static Result<PinnedBuffer> allocate(std::shared_ptr<CudaSession> session, int64_t bytes,
                                       const char* what);
  uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  void swap(PinnedBuffer& other) {
    std::swap(session_, other.session_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  std::shared_ptr<CudaSession> session_;
  uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

// A queue of device work of its own. The destructor waits for what is in it.
class CudaStream {
 public:
  CudaStream() = default;
  CudaStream(CudaStream&& other) noexcept { swap(other); }
  CudaStream& operator=(CudaStream&& other) noexcept {
    swap(other);
    return *this;
  }
  ~CudaStream();
  static Result<CudaStream> create(std::shared_ptr<CudaSession> session);
  cudaStream_t get() const { return stream_; }
  Status synchronize(const char* what) const;

 private:
  void swap(CudaStream& other) {
    std::swap(session_, other.session_);
    std::swap(stream_, other.stream_);
  }
  std::shared_ptr<CudaSession> session_;
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent() = default;
  CudaEvent(CudaEvent&& other) noexcept { swap(other); }
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    swap(other);
    return *this;
  }
  ~CudaEvent();
  static Result<CudaEvent> create(std::shared_ptr<CudaSession> session);
  cudaEvent_t get() const { return event_; }
  Status record(const CudaStream& stream) const;
  Status synchronize(const char* what) const;

 private:
  void swap(CudaEvent& other) {
    std::swap(session_, other.session_);
    std::swap(event_, other.event_);
  }
  std::shared_ptr<CudaSession> session_;
  cudaEvent_t event_ = nullptr;
};

}  // namespace flexq
