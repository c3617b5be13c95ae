// Errors are values: a Status is a code of flexq.h plus one line that says what was expected and
// what was found. Nothing in the library throws on purpose; std::bad_alloc from a container is
// turned into kOutOfMemory by the exception barrier in src/api.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace flexq {

// The same numbers as flexq_status in flexq.h (checked by static_assert in src/api/status_api.cpp).
enum class StatusCode : int32_t {
  kOk = 0,
  // What the caller passed.
  kInvalidArgument = -1,   // a null, negative or out-of-range argument
  kUnknownOption = -2,     // no option of that name
  kUnsupportedValue = -3,  // a known option with a value this build does not take
  kInvalidState = -4,      // the call does not fit what was done before
  kBufferTooSmall = -5,    // the needed size is in the out parameter
  // The machine around us.
  kOutOfMemory = -100,
  kIo = -101,        // an operating-system call failed
  kNotFound = -102,  // a file, folder or named thing does not exist
  kNoSpace = -103,   // disk or quota is full
  // What a file says.
  kCorrupt = -200,             // damaged or malformed data
  kUnsupportedVersion = -201,  // a newer format, or a feature this reader does not know
  kUnsupportedModel = -202,    // a well-formed file of a model that FlexQ does not implement
  kLimitExceeded = -203,       // a declared size beyond the documented limits
  kSignature = -204,           // a signature that does not fit, or none by the required key
  // A run.
  kCancelled = -300,
  kDeadlineExceeded = -301,
  kContextFull = -302,  // no room left in the KV cache or the context
  kNonFinite = -303,    // NaN or infinity in logits or weights
  kStoppedByCallback = -304,
  kBudgetNotMet = -305,  // no choice keeps what the caller set as a limit
  kQueueFull = -306,     // too many requests wait
  // Devices.
  kNoDevice = -400,
  kDeviceUnsupported = -401,
  kDeviceLost = -402,
  kInternal = -900,  // a bug in FlexQ: please report it
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok

  // An error with a printf-style message of one line without a final full stop.
  [[gnu::format(printf, 2, 3)]] static Status error(StatusCode code, const char* format, ...);

  // Needs no allocation: `what` must be a string literal. free_bytes: of a memory whose free room
  // is known.
  static Status out_of_memory(const char* what, int64_t bytes, int64_t free_bytes = -1) {
    Status status;
    status.code_ = StatusCode::kOutOfMemory;
    status.oom_what_ = what;
    status.oom_bytes_ = bytes;
    status.oom_free_bytes_ = free_bytes;
    return status;
  }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }

  // Writes the message, always NUL-terminated, truncated at `capacity`; allocates nothing.
  void format_message(char* buffer, int64_t capacity) const;
  std::string message() const;

  // The same error with "context: " in front of its message (an out-of-memory status stays as it
  // is).
  Status with_context(const std::string& context) &&;

 private:
  StatusCode code_ = StatusCode::kOk;
  const char* oom_what_ = nullptr;
  int64_t oom_bytes_ = 0;
  int64_t oom_free_bytes_ = -1;
  std::string message_;
};

// A value or the Status that says why there is none. Never holds an ok Status without a value.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit on purpose
  Result(Status status) : status_(std::move(status)) {}  // NOLINT
  bool ok() const { return value_.has_value(); }
  const Status& status() const& { return status_; }
  Status&& status() && { return std::move(status_); }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace flexq

#define FLEXQ_CONCAT_INNER(a, b) a##b
#define FLEXQ_CONCAT(a, b) FLEXQ_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr`, a Status, is an error.
#define FLEXQ_RETURN_IF_ERROR(expr)                \
  do {                                             \
    ::flexq::Status flexq_status_ = (expr);        \
    if (!flexq_status_.ok()) return flexq_status_; \
  } while (false)

// FLEXQ_ASSIGN_OR_RETURN(auto file, File::open_read(path));
#define FLEXQ_ASSIGN_OR_RETURN(declaration, expr) \
  FLEXQ_ASSIGN_OR_RETURN_INNER(FLEXQ_CONCAT(flexq_result_, __LINE__), declaration, expr)
#define FLEXQ_ASSIGN_OR_RETURN_INNER(result, declaration, expr) \
  auto result = (expr);                                         \
  if (!result.ok()) return std::move(result).status();          \
  declaration = std::move(result).value()
