// A running `flexq serve`, and what tests ask it.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "http/httplib_header.h"
#include "tool/tool_process.h"

namespace flexq::test {

class ServerProcess {
 public:
  // Starts it on a free port and waits until it is ready.
  explicit ServerProcess(std::vector<std::string> arguments);

  int port() const { return port_; }
  ToolProcess& process() { return *process_; }
  // A client with a connection of its own.
  httplib::Client client() const;
  // The answer to a POST of JSON: status 200 and one JSON object.
  nlohmann::json post(const std::string& path, const nlohmann::json& body) const;
  // The samples of /metrics without labels.
  std::map<std::string, double> metrics(const httplib::Headers& headers = {}) const;
  // Waits until a sample has a value.
  void wait_for_metric(const std::string& name, double value) const;
  // Waits until several have their values in one reading, which it returns.
  std::map<std::string, double> wait_for_metrics(const std::map<std::string, double>& values) const;
  // SIGTERM; the exit code.
  ToolResult stop();

 private:
  std::unique_ptr<ToolProcess> process_;
  int port_ = 0;
};

// The data of each event of a stream; every byte of it must belong to one.
std::vector<std::string> stream_events(const std::string& body);

// A TCP connection for what no HTTP client sends.
class RawConnection {
 public:
  explicit RawConnection(int port);
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  void send(const std::string& bytes) const;
  // What comes until the server closes the connection, or `n_bytes` of it.
  std::string receive(size_t n_bytes = SIZE_MAX) const;
  // Also while the server sends: it gets a reset then.
  void close();

 private:
  int socket_ = -1;
};

// A POST of JSON as bytes.
std::string post_bytes(const std::string& path, const std::string& body);

}  // namespace flexq::test
