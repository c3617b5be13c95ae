#include "httplib_server.h"

#include <poll.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "http_connection.h"

namespace flexq_tool {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kMaxHeaderBytes = 64 * 1024;
constexpr auto kHeaderTime = milliseconds(10000);
constexpr auto kBodyTime = milliseconds(60000);
constexpr auto kIdleTime = milliseconds(30000);
// How often an idle connection looks whether others wait for its thread.
constexpr auto kIdleSlice = milliseconds(100);
constexpr int kMaxRequestsPerConnection = 1000;
constexpr int kBacklog = 1024;

class SinkStream final : public HttpStream {
 public:
  explicit SinkStream(httplib::DataSink& sink) : sink_(sink) {}
  bool write(std::string_view bytes) override { return sink_.write(bytes.data(), bytes.size()); }

 private:
  httplib::DataSink& sink_;
};

// The header's value as a number; -1 where it is none.
int64_t content_length(const std::string& text) {
  const bool is_number =
      !text.empty() && text.size() <= 18 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return is_number ? std::stoll(text) : -1;
}

}  // namespace

// A request between its headers and the end of its answer.
class HttplibServer::Exchange final : public HttpRequest {
 public:
  explicit Exchange(HttpConnection& connection) : connection_(connection) {}

  // httplib has read the headers. Routing, ranges and compression are left out: the handler gets
  // every path, and answers go out as they are.
  void begin(httplib::Request& request) {
    request_ = &request;
    path_ = std::move(request.path);
    request.path = "/";
    request.ranges.clear();
    request.headers.erase("Accept-Encoding");
    n_length_headers_ = request.get_header_value_count("Content-Length");
    is_chunked_ = request.has_header("Transfer-Encoding");
    const int64_t length =
        n_length_headers_ == 0 ? 0 : content_length(request.get_header_value("Content-Length"));
    // Where a body ends must be certain, or its rest would be read as the next request.
    is_broken_ = n_length_headers_ > 1 || length < 0 || (n_length_headers_ == 1 && is_chunked_) ||
                 (is_chunked_ && strcasecmp(request.get_header_value("Transfer-Encoding").c_str(),
                                            "chunked") != 0);
    n_body_bytes_ = std::max<int64_t>(length, 0);
    has_unread_body_ = is_broken_ || is_chunked_ || n_body_bytes_ > 0;
  }

  const std::string& method() const override { return request_->method; }
  const std::string& path() const override { return path_; }
  const std::string& remote_address() const override { return request_->remote_addr; }
  std::vector<std::string> header_values(const char* name) const override {
    std::vector<std::string> values;
    const auto [begin, end] = request_->headers.equal_range(name);
    for (auto i = begin; i != end; ++i)
      values.push_back(i->second);
    return values;
  }
  Body read_body(int64_t max_bytes, std::string& body) override {
    body.clear();
    if (is_broken_ || reader == nullptr) return has_unread_body_ ? Body::kBroken : Body::kWhole;
    if (!has_unread_body_) return Body::kWhole;
    if (n_body_bytes_ > max_bytes) return Body::kTooLarge;
    // Chunks have frames of their own.
    connection_.allow(3 * max_bytes + kMaxHeaderBytes, kBodyTime);
    bool fits = true;
    const bool is_whole = (*reader)([&](const char* bytes, size_t n_bytes) {
      fits = static_cast<int64_t>(body.size() + n_bytes) <= max_bytes;
      if (fits) body.append(bytes, n_bytes);
      return fits;
    });
    if (!fits) return Body::kTooLarge;
    if (!is_whole) return Body::kBroken;
    has_unread_body_ = false;
    return Body::kWhole;
  }
  bool is_disconnected() const override { return connection_.is_closed_by_client(); }

  bool has_begun() const { return request_ != nullptr; }
  bool has_unread_body() const { return has_unread_body_; }
  bool knows_chunks() const { return request_->version != "HTTP/1.0"; }
  HttpConnection& connection() { return connection_; }

  const httplib::ContentReader* reader = nullptr;  // while the handler runs, for POST
  bool has_answer = false;
  bool ends_with_connection = false;
  std::function<void(int64_t n_bytes, bool whole)> done;

 private:
  HttpConnection& connection_;
  httplib::Request* request_ = nullptr;
  std::string path_;
  size_t n_length_headers_ = 0;
  int64_t n_body_bytes_ = 0;
  bool is_chunked_ = false;
  bool is_broken_ = false;
  bool has_unread_body_ = false;
};

namespace {

// httplib's handlers get nothing that leads to the connection; all of one exchange runs on one
// thread.
thread_local void* t_exchange = nullptr;

}  // namespace

std::unique_ptr<HttpServer> HttplibServer::create(HttpServerOptions options, std::string& error) {
  auto server = std::make_unique<HttplibServer>(std::move(options));
  if (!server->bind(error)) return nullptr;
  return server;
}

HttplibServer::HttplibServer(HttpServerOptions options)
    : options_(std::move(options)),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      threads_(options_.max_connections, [this](int socket) { serve(socket); }) {
  // httplib's own default lets a second server take the same port.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    (void)setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
    if (request.method == "POST") return HandlerResponse::Unhandled;
    answer(nullptr, response);
    return HandlerResponse::Handled;
  });
  Post("/", [this](const httplib::Request&, httplib::Response& response,
                   const httplib::ContentReader& reader) { answer(&reader, response); });
  const HandlerWithResponse add_error_body = [this](const httplib::Request&,
                                                    httplib::Response& response) {
    const auto* exchange = static_cast<const Exchange*>(t_exchange);
    if (exchange->has_answer) return HandlerResponse::Unhandled;
    response.set_content(options_.error_body(response.status), "application/json");
    return HandlerResponse::Handled;
  };
  set_error_handler(add_error_body);
  set_exception_handler([](const httplib::Request&, httplib::Response& response,
                           std::exception_ptr) { response.status = 500; });
}

HttplibServer::~HttplibServer() {
  threads_.finish();
  if (svr_sock_ != INVALID_SOCKET) ::close(svr_sock_);
  ::close(stop_event_);
}

bool HttplibServer::bind(std::string& error) {
  errno = 0;
  if (options_.port == 0) {
    port_ = bind_to_any_port(options_.host);
  } else {
    port_ = bind_to_port(options_.host, options_.port) ? options_.port : -1;
  }
  // Again, with room for more connections than httplib's 5 between two calls of accept.
  if (port_ > 0 && ::listen(svr_sock_, kBacklog) == 0) return true;
  error = errno != 0 ? std::strerror(errno) : "no such address";
  return false;
}

void HttplibServer::run() {
  pollfd events[] = {{svr_sock_, POLLIN, 0}, {stop_event_, POLLIN, 0}};
  while (poll(events, 2, -1) < 0 || events[1].revents == 0) {
    const int socket = accept4(svr_sock_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) {
      threads_.add(socket);
    } else if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
      // No descriptor or no memory left: some come back when connections end.
      (void)poll(&events[1], 1, 10);
    }
  }
  // Refuses new connections. The descriptor stays: to httplib, a server without one has ended, and
  // it would cut off the streams.
  ::shutdown(svr_sock_, SHUT_RDWR);
  threads_.finish();
}

void HttplibServer::stop() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_event_, &one, sizeof one);
}

void HttplibServer::serve(int socket) {
  HttpConnection connection(socket);
  const auto has_stopped = [this] {
    pollfd event = {stop_event_, POLLIN, 0};
    return poll(&event, 1, 0) > 0;
  };
  bool is_open = true;
  for (int i = 1; is_open && i <= kMaxRequestsPerConnection; ++i) {
    milliseconds waited(0);
    while (!connection.wait_for_request(kIdleSlice, stop_event_)) {
      waited += kIdleSlice;
      if (connection.is_closed_by_client() || has_stopped() || waited >= kIdleTime ||
          (i > 1 && threads_.has_waiting())) {
        return;
      }
    }
    Exchange exchange(connection);
    is_open = serve_request(exchange, i == kMaxRequestsPerConnection || has_stopped());
  }
  connection.close_gently();
}

bool HttplibServer::serve_request(Exchange& exchange, bool is_last) {
  HttpConnection& connection = exchange.connection();
  const int64_t n_bytes_before = connection.n_written_bytes();
  connection.allow(kMaxHeaderBytes, kHeaderTime);
  bool is_closed = false;
  bool is_whole = false;
  t_exchange = &exchange;
  try {
    is_whole = process_request(connection, is_last, is_closed,
                               [&](httplib::Request& request) { exchange.begin(request); });
  } catch (const std::exception&) {  // no memory: the answer ends here
  }
  t_exchange = nullptr;
  if (exchange.done) exchange.done(connection.n_written_bytes() - n_bytes_before, is_whole);
  return is_whole && !is_closed && !is_last && exchange.has_begun() &&
         !exchange.has_unread_body() && !exchange.ends_with_connection;
}

void HttplibServer::answer(const httplib::ContentReader* reader, httplib::Response& to) {
  auto* exchange = static_cast<Exchange*>(t_exchange);
  HttpResponse response;
  exchange->reader = reader;
  options_.handle(*exchange, response);
  exchange->reader = nullptr;
  exchange->has_answer = true;
  exchange->done = std::move(response.done);
  to.status = response.status;
  for (const auto& [name, value] : response.headers)
    to.set_header(name, value);
  if (exchange->has_unread_body()) to.set_header("Connection", "close");
  if (!response.stream) {
    to.set_content(response.body, response.content_type);
    return;
  }
  const auto provide = [stream = std::move(response.stream)](size_t, httplib::DataSink& sink) {
    SinkStream body(sink);
    stream(body);
    sink.done();
    return true;
  };
  if (exchange->knows_chunks()) {
    to.set_chunked_content_provider(response.content_type, provide);
  } else {
    exchange->ends_with_connection = true;
    to.set_content_provider(response.content_type, provide);
  }
}

}  // namespace flexq_tool
