// The server of http_transport.h on httplib, which reads requests and writes answers. Accepting,
// threads and the connections are ours: so that a drain ends nothing, limits hold while a request
// is read, and a client that goes is noticed while its answer is computed.
#pragma once

#include "connection_threads.h"
#include "http_transport.h"
#include "httplib_header.h"

namespace flexq_tool {

class HttplibServer final : public HttpServer, private httplib::Server {
 public:
  // The address is bound; nullptr with an error message where it cannot be.
  static std::unique_ptr<HttpServer> create(HttpServerOptions options, std::string& error);
  explicit HttplibServer(HttpServerOptions options);
  ~HttplibServer() override;

  int port() const override { return port_; }
  void run() override;
  void stop() override;

 private:
  class Exchange;

  bool bind(std::string& error);
  void serve(int socket);
  // One request and its answer; whether another one may follow on the connection.
  bool serve_request(Exchange& exchange, bool is_last);
  void answer(const httplib::ContentReader* reader, httplib::Response& response);

  HttpServerOptions options_;
  int port_ = 0;
  int stop_event_;
  ConnectionThreads threads_;
};

}  // namespace flexq_tool
