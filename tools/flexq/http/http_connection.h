// A client's connection for httplib: buffered, with limits on bytes and time for what a client
// sends, and able to say when the client has gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "httplib_header.h"

namespace flexq_tool {

class HttpConnection final : public httplib::Stream {
 public:
  explicit HttpConnection(int socket);  // takes it over
  ~HttpConnection() override;
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // Reads from now on may take so many bytes and so long; then they fail.
  void allow(int64_t n_bytes, std::chrono::milliseconds time);
  // Waits until a byte of the next request is there; false when it did not come in time, the client
  // closed the connection, or `stop_event` became readable.
  bool wait_for_request(std::chrono::milliseconds time, int stop_event) const;
  // Whether the client closed the connection or its sending half.
  bool is_closed_by_client() const;
  // Says that nothing more will be sent, and reads for a moment what the client still sends: a
  // close with unread bytes would make its system drop an answer that it has not read.
  void close_gently();
  int64_t n_written_bytes() const { return n_written_bytes_; }

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* bytes, size_t n_bytes) override;
  ssize_t write(const char* bytes, size_t n_bytes) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;

  // The socket's events among `events`; 0 when none came until `deadline`.
  short wait(short events, Clock::time_point deadline) const;

  int socket_;
  int64_t n_allowed_bytes_ = 0;
  Clock::time_point read_deadline_;
  int64_t n_written_bytes_ = 0;
  bool has_failed_ = false;
  char buffer_[4096];  // received, and not read yet: [begin_, end_)
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace flexq_tool
