// HTTP/1.1 as the tool sees it. What implements it, and the HTTP library with it, is a library of
// its own that is loaded when a command needs it (http_library.h): the tool itself runs where that
// library is not installed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flexq_tool {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// The body of an answer while it is written piece by piece.
class HttpStream {
 public:
  virtual ~HttpStream() = default;
  // False: the client has gone, nothing more can be written.
  virtual bool write(std::string_view bytes) = 0;
};

// One request. Lives as long as the call of the handler and, where that set one, of the stream.
class HttpRequest {
 public:
  enum class Body {
    kWhole,
    kTooLarge,
    kBroken,  // the connection ended, was too slow, or broke the rules of HTTP
  };

  virtual ~HttpRequest() = default;
  virtual const std::string& method() const = 0;
  virtual const std::string& path() const = 0;  // decoded, without the query
  virtual const std::string& remote_address() const = 0;
  // The values of all headers of that name.
  virtual std::vector<std::string> header_values(const char* name) const = 0;
  // Reads the body, of at most max_bytes. A connection whose request's body was not read to its end
  // is closed behind the answer.
  virtual Body read_body(int64_t max_bytes, std::string& body) = 0;
  // Whether the client closed the connection, its sending half included.
  virtual bool is_disconnected() const = 0;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;
  std::string body;
  // Where set, it writes the body, after the status line and the headers.
  std::function<void(HttpStream&)> stream;
  // Called when the answer was written; whole: to its end. n_bytes: with status line and headers.
  std::function<void(int64_t n_bytes, bool whole)> done;
};

struct HttpServerOptions {
  std::string host;
  int port = 0;             // 0: any that is free
  int max_connections = 1;  // served at once, a thread for each; more wait
  // Answers a request; called by many threads at once. Exceptions become an answer of status 500.
  std::function<void(HttpRequest&, HttpResponse&)> handle;
  // The body, a JSON object, for what never became a request: 400 and the like.
  std::function<std::string(int status)> error_body;
};

class HttpServer {
 public:
  virtual ~HttpServer() = default;
  virtual int port() const = 0;
  // Serves until stop(): then accepts no connection any more, closes those that carry no request,
  // and returns when the others have their answer.
  virtual void run() = 0;
  // From any thread, also before run().
  virtual void stop() = 0;
};

// A client's connection to one server, for one thread.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // Posts JSON. on_bytes gets a body of status 200 piece by piece, and ends the request by false;
  // other bodies come in `body`. Returns the status; 0: no answer, `body` says why.
  virtual int post(const std::string& path, const HttpHeaders& headers, const std::string& json,
                   const std::function<bool(std::string_view)>& on_bytes, std::string& body) = 0;
  virtual int get(const std::string& path, const HttpHeaders& headers, std::string& body) = 0;
};

// The implementation's entry, exported as kHttpTransportSymbol. Both functions return nullptr with
// an error message.
struct HttpTransport {
  std::unique_ptr<HttpServer> (*create_server)(HttpServerOptions options, std::string& error);
  // url: "http://HOST:PORT".
  std::unique_ptr<HttpClient> (*create_client)(const std::string& url, std::string& error);
};
inline constexpr char kHttpTransportSymbol[] = "flexq_http_transport";
inline constexpr char kHttpTransportFile[] = "libflexq_http.so";

}  // namespace flexq_tool
