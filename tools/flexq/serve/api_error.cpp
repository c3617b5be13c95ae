#include "serve/api_error.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "serve/json_fields.h"

namespace flexq_tool {
namespace {

int http_status(flexq_status status) {
  switch (status) {
    case FLEXQ_ERROR_INVALID_ARGUMENT:
    case FLEXQ_ERROR_UNKNOWN_OPTION:
    case FLEXQ_ERROR_UNSUPPORTED_VALUE:
    case FLEXQ_ERROR_CONTEXT_FULL:
    case FLEXQ_ERROR_LIMIT_EXCEEDED:
    case FLEXQ_ERROR_UNSUPPORTED_MODEL:
    case FLEXQ_ERROR_NOT_FOUND:
      return 400;
    case FLEXQ_ERROR_QUEUE_FULL:
      return 429;
    case FLEXQ_ERROR_CANCELLED:
    case FLEXQ_ERROR_DEVICE_LOST:
    case FLEXQ_ERROR_OUT_OF_MEMORY:
      return 503;
    case FLEXQ_ERROR_DEADLINE_EXCEEDED:
      return 504;
    default:
      return 500;
  }
}

std::string error_code(flexq_status status) {
  switch (status) {
    case FLEXQ_ERROR_CONTEXT_FULL:
      return "context_length_exceeded";
    case FLEXQ_ERROR_QUEUE_FULL:
      return "queue_full";
    case FLEXQ_ERROR_DEVICE_LOST:
      return "device_lost";
    case FLEXQ_ERROR_DEADLINE_EXCEEDED:
      return "timeout";
    default:
      return "";
  }
}

}  // namespace

ApiError::ApiError(int http_status, std::string error_message, std::string parameter,
                   std::string error_code)
    : status(http_status),
      message(std::move(error_message)),
      param(std::move(parameter)),
      code(std::move(error_code)) {}

const char* ApiError::type() const {
  switch (status) {
    case 401:
      return "authentication_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string ApiError::json() const {
  using nlohmann::ordered_json;
  ordered_json error = {
      {"message", message}, {"type", type()}, {"param", nullptr}, {"code", nullptr}};
  if (!param.empty()) error["param"] = param;
  if (!code.empty()) error["code"] = code;
  return json_text({{"error", std::move(error)}});
}

ApiError library_error(flexq_status status, const std::string& param) {
  return library_error(status, flexq_last_error(), param);
}

ApiError library_error(flexq_status status, const std::string& message, const std::string& param) {
  return ApiError(http_status(status), message, param, error_code(status));
}

}  // namespace flexq_tool
