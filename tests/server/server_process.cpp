#include "server/server_process.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

namespace flexq::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kHangs = std::chrono::seconds(120);

}  // namespace

ServerProcess::ServerProcess(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "serve");
  for (const char* word : {"--port", "0", "--json"})
    arguments.emplace_back(word);
  process_ = std::make_unique<ToolProcess>(arguments, ToolSetup{});
  const Clock::time_point deadline = Clock::now() + kHangs;
  while (process_->output().find('\n') == std::string::npos) {
    REQUIRE_MESSAGE(Clock::now() < deadline, "the server does not start");
    const bool is_running = process_->wait_for_output(process_->n_output_bytes() + 1);
    if (!is_running) FAIL("the server ended: " << process_->wait().err);
  }
  port_ = nlohmann::json::parse(process_->output()).at("port").get<int>();
}

httplib::Client ServerProcess::client() const {
  httplib::Client client("127.0.0.1", port_);
  client.set_read_timeout(kHangs);
  return client;
}

nlohmann::json ServerProcess::post(const std::string& path, const nlohmann::json& body) const {
  const httplib::Result result = client().Post(path, body.dump(), "application/json");
  REQUIRE(result);
  REQUIRE_MESSAGE(result->status == 200, result->body);
  return nlohmann::json::parse(result->body);
}

std::map<std::string, double> ServerProcess::metrics(const httplib::Headers& headers) const {
  const httplib::Result result = client().Get("/metrics", headers);
  REQUIRE(result);
  REQUIRE(result->status == 200);
  std::map<std::string, double> samples;
  std::istringstream lines(result->body);
  for (std::string line; std::getline(lines, line);) {
    const size_t blank = line.rfind(' ');
    if (line.starts_with('#') || blank == std::string::npos) continue;
    samples[line.substr(0, blank)] = std::stod(line.substr(blank + 1));
  }
  return samples;
}

void ServerProcess::wait_for_metric(const std::string& name, double value) const {
  wait_for_metrics({{name, value}});
}

std::map<std::string, double> ServerProcess::wait_for_metrics(
    const std::map<std::string, double>& values) const {
  const Clock::time_point deadline = Clock::now() + kHangs;
  for (;;) {
    const std::map<std::string, double> found = metrics();
    const auto differs = std::find_if(values.begin(), values.end(), [&](const auto& value) {
      return found.at(value.first) != value.second;
    });
    if (differs == values.end()) return found;
    REQUIRE_MESSAGE(Clock::now() < deadline, differs->first << ": expected " << differs->second
                                                            << ", found "
                                                            << found.at(differs->first));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

ToolResult ServerProcess::stop() {
  process_->send_signal(SIGTERM);
  return process_->wait();
}

std::vector<std::string> stream_events(const std::string& body) {
  std::vector<std::string> events;
  size_t at = 0;
  while (at < body.size()) {
    REQUIRE(body.compare(at, 6, "data: ") == 0);
    const size_t end = body.find("\n\n", at);
    REQUIRE(end != std::string::npos);
    events.push_back(body.substr(at + 6, end - at - 6));
    CHECK(events.back().find('\n') == std::string::npos);
    at = end + 2;
  }
  return events;
}

RawConnection::RawConnection(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const timeval timeout = {60, 0};
  REQUIRE(setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
}

RawConnection::~RawConnection() {
  close();
}

void RawConnection::send(const std::string& bytes) const {
  size_t n_sent = 0;
  while (n_sent < bytes.size()) {
    const ssize_t n = ::send(socket_, bytes.data() + n_sent, bytes.size() - n_sent, MSG_NOSIGNAL);
    if (n <= 0) return;  // the server had enough
    n_sent += static_cast<size_t>(n);
  }
}

std::string RawConnection::receive(size_t n_bytes) const {
  std::string bytes;
  char block[4096];
  while (bytes.size() < n_bytes) {
    const ssize_t n = recv(socket_, block, sizeof block, 0);
    if (n <= 0) break;
    bytes.append(block, static_cast<size_t>(n));
  }
  return bytes;
}

void RawConnection::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

std::string post_bytes(const std::string& path, const std::string& body) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace flexq::test
