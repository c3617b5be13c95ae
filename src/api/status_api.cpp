#include <cstdio>

#include "api/api_guard.h"

namespace flexq::api {
namespace {

constexpr int64_t kMessageBytes = 1024;
thread_local char t_last_error[kMessageBytes] = "";

}  // namespace

flexq_status report(const Status& status) {
  status.format_message(t_last_error, kMessageBytes);
  return static_cast<flexq_status>(status.code());
}

flexq_status report_bad_alloc() {
  snprintf(t_last_error, sizeof t_last_error, "out of memory: a small host object");
  return FLEXQ_ERROR_OUT_OF_MEMORY;
}

flexq_status report_unknown_exception() {
  snprintf(t_last_error, sizeof t_last_error, "unexpected exception inside FlexQ");
  return FLEXQ_ERROR_INTERNAL;
}

Status null_argument(const char* name) {
  return Status::error(StatusCode::kInvalidArgument, "%s: expected a value, found NULL", name);
}

Status invalid_range(const char* name, double low, double high, double found) {
  return Status::error(StatusCode::kInvalidArgument, "%s: expected %.10g to %.10g, found %.10g",
                       name, low, high, found);
}

Status negative_length(const char* name, int64_t found) {
  return Status::error(StatusCode::kInvalidArgument, "%s: expected 0 or more, found %lld", name,
                       static_cast<long long>(found));
}

}  // namespace flexq::api

namespace {

struct StatusName {
  flexq::StatusCode code;
  flexq_status status;
  const char* name;
};

constexpr StatusName kStatusNames[] = {
    {flexq::StatusCode::kOk, FLEXQ_OK, "OK"},
#define FLEXQ_STATUS_NAME(code, name) \
  { flexq::StatusCode::code, FLEXQ_ERROR_##name, #name }
    FLEXQ_STATUS_NAME(kInvalidArgument, INVALID_ARGUMENT),
    FLEXQ_STATUS_NAME(kUnknownOption, UNKNOWN_OPTION),
    FLEXQ_STATUS_NAME(kUnsupportedValue, UNSUPPORTED_VALUE),
    FLEXQ_STATUS_NAME(kInvalidState, INVALID_STATE),
    FLEXQ_STATUS_NAME(kBufferTooSmall, BUFFER_TOO_SMALL),
    FLEXQ_STATUS_NAME(kOutOfMemory, OUT_OF_MEMORY),
    FLEXQ_STATUS_NAME(kIo, IO),
    FLEXQ_STATUS_NAME(kNotFound, NOT_FOUND),
    FLEXQ_STATUS_NAME(kNoSpace, NO_SPACE),
    FLEXQ_STATUS_NAME(kCorrupt, CORRUPT),
    FLEXQ_STATUS_NAME(kUnsupportedVersion, UNSUPPORTED_VERSION),
    FLEXQ_STATUS_NAME(kUnsupportedModel, UNSUPPORTED_MODEL),
    FLEXQ_STATUS_NAME(kLimitExceeded, LIMIT_EXCEEDED),
    FLEXQ_STATUS_NAME(kSignature, SIGNATURE),
    FLEXQ_STATUS_NAME(kCancelled, CANCELLED),
    FLEXQ_STATUS_NAME(kDeadlineExceeded, DEADLINE_EXCEEDED),
    FLEXQ_STATUS_NAME(kContextFull, CONTEXT_FULL),
    FLEXQ_STATUS_NAME(kNonFinite, NON_FINITE),
    FLEXQ_STATUS_NAME(kStoppedByCallback, STOPPED_BY_CALLBACK),
    FLEXQ_STATUS_NAME(kBudgetNotMet, BUDGET_NOT_MET),
    FLEXQ_STATUS_NAME(kQueueFull, QUEUE_FULL),
    FLEXQ_STATUS_NAME(kNoDevice, NO_DEVICE),
    FLEXQ_STATUS_NAME(kDeviceUnsupported, DEVICE_UNSUPPORTED),
    FLEXQ_STATUS_NAME(kDeviceLost, DEVICE_LOST),
    FLEXQ_STATUS_NAME(kInternal, INTERNAL),
#undef FLEXQ_STATUS_NAME
};

constexpr bool codes_agree() {
  for (const StatusName& entry : kStatusNames) {
    if (static_cast<flexq_status>(entry.code) != entry.status) return false;
  }
  return true;
}
static_assert(codes_agree(), "StatusCode and flexq.h number the same statuses");

}  // namespace

extern "C" {

const char* flexq_status_name(flexq_status status) {
  for (const StatusName& entry : kStatusNames) {
    if (entry.status == status) return entry.name;
  }
  return "UNKNOWN";
}

const char* flexq_last_error(void) {
  return flexq::api::t_last_error;
}

}  // extern "C"
