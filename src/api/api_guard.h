// What every extern "C" function goes through: the exception barrier, the thread's last error,
// reference-counted handles, and the two output conventions (buffers and info structs).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "flexq.h"

namespace flexq::api {

// Remembers the status for flexq_last_error() and returns its code. Allocates nothing.
flexq_status report(const Status& status);
// For what is caught at the barrier.
flexq_status report_bad_alloc();
flexq_status report_unknown_exception();

// Runs body, which returns a Status; no exception gets out.
template <typename Body>
flexq_status guarded(Body&& body) {
  try {
    const Status status = body();
    return status.ok() ? FLEXQ_OK : report(status);
  } catch (const std::bad_alloc&) {
    return report_bad_alloc();
  } catch (...) {
    return report_unknown_exception();
  }
}

// The same for functions without a status: `fallback` is returned on an exception.
template <typename T, typename Body>
T guarded_value(T fallback, Body&& body) {
  try {
    return body();
  } catch (...) {
    return fallback;
  }
}

// Base of every handle struct. The owner's reference is the first; each call in progress adds one,
// so that a release on another thread waits, without blocking, for the last call to end.
struct Handle {
  mutable std::atomic<int32_t> references{1};
};

template <typename H>
void drop_reference(const H* handle) {
  if (handle != nullptr && handle->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete handle;
  }
}

// Keeps a handle alive for the duration of a call.
template <typename H>
class Held {
 public:
  explicit Held(H* handle) : handle_(handle) {
    if (handle_ != nullptr) handle_->references.fetch_add(1, std::memory_order_relaxed);
  }
  ~Held() { drop_reference(handle_); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  H* operator->() const { return handle_; }
  H& operator*() const { return *handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  H* handle_;
};

Status null_argument(const char* name);
#define FLEXQ_REQUIRE(pointer)                                    \
  do {                                                            \
    if (!(pointer)) return ::flexq::api::null_argument(#pointer); \
  } while (false)

Status invalid_range(const char* name, double low, double high, double found);
Status negative_length(const char* name, int64_t found);

// (buffer, capacity, out length): the length is always written, whatever the status.
template <typename T, typename Length>
Status fill_buffer(const T* values, Length n, T* buffer, Length capacity, Length* length,
                   const char* what) {
  FLEXQ_REQUIRE(length);
  *length = n;
  if (capacity < 0) return negative_length("capacity", capacity);
  if (n > capacity) {
    return Status::error(StatusCode::kBufferTooSmall, "%s: expected room for %lld, found %lld",
                         what, static_cast<long long>(n), static_cast<long long>(capacity));
  }
  if (n == 0) return Status();
  FLEXQ_REQUIRE(buffer);
  memcpy(buffer, values, static_cast<size_t>(n) * sizeof(T));
  return Status();
}

inline Status fill_text(std::string_view text, char* buffer, int64_t capacity, int64_t* length) {
  return fill_buffer(text.data(), static_cast<int64_t>(text.size()), buffer, capacity, length,
                     "text buffer");
}

// Whether an info struct can be filled. Long work checks it first, so that no result gets lost.
template <typename T>
Status check_info(const T* info) {
  if (info == nullptr) return null_argument("info struct");
  if (info->struct_size >= 2 * sizeof(uint32_t)) return Status();
  return Status::error(StatusCode::kInvalidArgument,
                       "struct_size: expected sizeof the struct (%zu), found %u", sizeof(T),
                       info->struct_size);
}

// Copies as much of a filled info struct as the caller's struct_size allows.
template <typename T>
Status fill_info(T filled, T* info) {
  FLEXQ_RETURN_IF_ERROR(check_info(info));
  filled.struct_size = info->struct_size;
  const size_t size = info->struct_size < sizeof(T) ? info->struct_size : sizeof(T);
  memcpy(static_cast<void*>(info), &filled, size);
  return Status();
}

// Copies a name into a fixed array of an info struct, cut if need be, always NUL-terminated.
template <size_t N>
void copy_name(char (&to)[N], std::string_view from) {
  const size_t n = from.size() < N - 1 ? from.size() : N - 1;
  memcpy(to, from.data(), n);
  to[n] = '\0';
}

}  // namespace flexq::api
