#include "device/cuda/cuda_buffer.h"

namespace flexq {

Result<std::unique_ptr<CudaBuffer>> CudaBuffer::allocate(std::shared_ptr<CudaSession> session,
                                                         int64_t bytes, const char* what) {
  if (bytes < 0) {
    return Status::error(StatusCode::kInternal, "%s: a buffer of %lld bytes was asked for", what,
                         static_cast<long long>(bytes));
  }
  FLEXQ_RETURN_IF_ERROR(session->enter());
  // First, since it may fail: nothing that CUDA gave may get lost.
  std::unique_ptr<CudaBuffer> buffer(new CudaBuffer(session, nullptr, 0));
  if (bytes == 0) return buffer;
  void* memory = nullptr;
  FLEXQ_RETURN_IF_ERROR(
      session->check(session->runtime().malloc(&memory, static_cast<size_t>(bytes)), what, bytes));
  buffer->data_ = static_cast<uint8_t*>(memory);
  buffer->size_ = bytes;
  return buffer;
}

CudaBuffer::~CudaBuffer() {
  if (data_ == nullptr || !session_->enter_to_release()) return;
  // Waits for the device. An error belongs to work that was queued before.
  session_->note(session_->runtime().free(data_));
}

Result<PinnedBuffer> PinnedBuffer::allocate(std::shared_ptr<CudaSession> session, int64_t bytes,
                                            const char* what) {
  FLEXQ_RETURN_IF_ERROR(session->enter());
  PinnedBuffer buffer;
  void* memory = nullptr;
  FLEXQ_RETURN_IF_ERROR(session->check(
      session->runtime().malloc_host(&memory, static_cast<size_t>(bytes)), what, bytes));
  buffer.data_ = static_cast<uint8_t*>(memory);
  buffer.size_ = bytes;
  buffer.session_ = std::move(session);
  return buffer;
}

PinnedBuffer::~PinnedBuffer() {
  // Host memory, so of a lost device too; whether CUDA then still lets go of it is its affair.
  if (data_ == nullptr || session_->forked()) return;
  session_->note(session_->runtime().free_host(data_));
}

Result<CudaStream> CudaStream::create(std::shared_ptr<CudaSession> session) {
  FLEXQ_RETURN_IF_ERROR(session->enter());
  CudaStream stream;
  FLEXQ_RETURN_IF_ERROR(
      session->check(session->runtime().stream_create(&stream.stream_), "making a stream"));
  stream.session_ = std::move(session);
  return stream;
}

CudaStream::~CudaStream() {
  if (session_ == nullptr || !session_->enter_to_release()) return;
  session_->note(session_->runtime().stream_synchronize(stream_));
  if (!session_->lost()) session_->note(session_->runtime().stream_destroy(stream_));
}

Status CudaStream::synchronize(const char* what) const {
  return session_->check(session_->runtime().stream_synchronize(stream_), what);
}

Result<CudaEvent> CudaEvent::create(std::shared_ptr<CudaSession> session) {
  FLEXQ_RETURN_IF_ERROR(session->enter());
  CudaEvent event;
  FLEXQ_RETURN_IF_ERROR(
      session->check(session->runtime().event_create(&event.event_), "making an event"));
  event.session_ = std::move(session);
  return event;
}

CudaEvent::~CudaEvent() {
  if (session_ == nullptr || !session_->enter_to_release()) return;
  session_->note(session_->runtime().event_destroy(event_));
}

Status CudaEvent::record(const CudaStream& stream) const {
  return session_->check(session_->runtime().event_record(event_, stream.get()),
                         "recording an event");
}

Status CudaEvent::synchronize(const char* what) const {
  return session_->check(session_->runtime().event_synchronize(event_), what);
}

}  // namespace flexq
