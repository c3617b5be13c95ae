#include "httplib_client.h"

namespace flexq_tool {
namespace {

// An answer may take long to begin, in a full queue.
constexpr time_t kReadTimeoutSeconds = 3600;

}  // namespace

std::unique_ptr<HttpClient> HttplibClient::create(const std::string& url, std::string& error) {
  auto client = std::make_unique<HttplibClient>(url);
  if (url.starts_with("http://") && client->client_.is_valid()) return client;
  error = "expected http://HOST:PORT";
  return nullptr;
}

HttplibClient::HttplibClient(const std::string& url) : client_(url) {
  client_.set_keep_alive(true);
  client_.set_tcp_nodelay(true);
  client_.set_read_timeout(kReadTimeoutSeconds);
}

int HttplibClient::post(const std::string& path, const HttpHeaders& headers,
                        const std::string& json,
                        const std::function<bool(std::string_view)>& on_bytes, std::string& body) {
  httplib::Request request;
  request.method = "POST";
  request.path = path;
  request.body = json;
  request.set_header("Content-Type", "application/json");
  return send(std::move(request), headers, on_bytes, body);
}

int HttplibClient::get(const std::string& path, const HttpHeaders& headers, std::string& body) {
  httplib::Request request;
  request.method = "GET";
  request.path = path;
  return send(std::move(request), headers, nullptr, body);
}

int HttplibClient::send(httplib::Request request, const HttpHeaders& headers,
                        const std::function<bool(std::string_view)>& on_bytes, std::string& body) {
  body.clear();
  int status = 0;
  for (const auto& [name, value] : headers)
    request.set_header(name, value);
  request.response_handler = [&status](const httplib::Response& response) {
    status = response.status;
    return true;
  };
  request.content_receiver = [&](const char* bytes, size_t n_bytes, uint64_t, uint64_t) {
    if (status == 200 && on_bytes) return on_bytes(std::string_view(bytes, n_bytes));
    body.append(bytes, n_bytes);
    return true;
  };
  const httplib::Result result = client_.send(request);
  if (result) return result->status;
  body = httplib::to_string(result.error());
  return 0;
}

}  // namespace flexq_tool
