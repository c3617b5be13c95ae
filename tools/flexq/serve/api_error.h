// Errors as the OpenAI API reports them.
#pragma once

#include <flexq.h>

#include <exception>
#include <string>

namespace flexq_tool {

// Thrown while a request is read and answered; becomes the answer.
struct ApiError : std::exception {
  ApiError(int http_status, std::string error_message, std::string parameter = "",
           std::string error_code = "");

  int status;
  std::string message;
  std::string param;  // the request's field; empty: none
  std::string code;   // empty: none

  const char* what() const noexcept override { return message.c_str(); }
  // "invalid_request_error", ...: follows from the HTTP status.
  const char* type() const;
  // {"error": {...}}
  std::string json() const;
};

// For a failed call of the library on this thread, with flexq_last_error().
ApiError library_error(flexq_status status, const std::string& param = "");

// The same for a failure whose message was kept.
ApiError library_error(flexq_status status, const std::string& message, const std::string& param);

}  // namespace flexq_tool
