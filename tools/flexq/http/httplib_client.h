// The client of http_transport.h on httplib.
#pragma once

#include "http_transport.h"
#include "httplib_header.h"

namespace flexq_tool {

class HttplibClient final : public HttpClient {
 public:
  static std::unique_ptr<HttpClient> create(const std::string& url, std::string& error);
  explicit HttplibClient(const std::string& url);

  int post(const std::string& path, const HttpHeaders& headers, const std::string& json,
           const std::function<bool(std::string_view)>& on_bytes, std::string& body) override;
  int get(const std::string& path, const HttpHeaders& headers, std::string& body) override;

 private:
  int send(httplib::Request request, const HttpHeaders& headers,
           const std::function<bool(std::string_view)>& on_bytes, std::string& body);

  httplib::Client client_;
};

}  // namespace flexq_tool
