#include "http_connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace flexq_tool {
namespace {

using std::chrono::milliseconds;

// How long a client may take no byte of an answer.
constexpr auto kWriteTimeout = milliseconds(30000);
constexpr auto kCloseTimeout = milliseconds(1000);

void address_text(const sockaddr_storage& address, std::string& ip, int& port) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    port = ntohs(v4->sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    port = ntohs(v6->sin6_port);
  }
  ip = text;
}

}  // namespace

HttpConnection::HttpConnection(int socket) : socket_(socket) {
  // Tokens leave as they come.
  const int on = 1;
  (void)setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

HttpConnection::~HttpConnection() {
  close(socket_);
}

void HttpConnection::allow(int64_t n_bytes, milliseconds time) {
  n_allowed_bytes_ = n_bytes;
  read_deadline_ = Clock::now() + time;
}

short HttpConnection::wait(short events, Clock::time_point deadline) const {
  pollfd event = {socket_, events, 0};
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    const int n_ready = poll(&event, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (n_ready > 0) return event.revents;
    if (n_ready == 0 || errno != EINTR) return 0;
  }
}

bool HttpConnection::wait_for_request(milliseconds time, int stop_event) const {
  if (begin_ < end_) return true;
  pollfd events[] = {{socket_, POLLIN, 0}, {stop_event, POLLIN, 0}};
  const int n_ready = poll(events, 2, static_cast<int>(time.count()));
  return n_ready > 0 && events[0].revents != 0 && !is_closed_by_client();
}

bool HttpConnection::is_closed_by_client() const {
  return has_failed_ || (wait(POLLRDHUP, Clock::now()) & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void HttpConnection::close_gently() {
  if (shutdown(socket_, SHUT_WR) != 0) return;
  const Clock::time_point deadline = Clock::now() + kCloseTimeout;
  while (wait(POLLIN, deadline) != 0) {
    if (recv(socket_, buffer_, sizeof buffer_, MSG_DONTWAIT) <= 0) return;
  }
}

bool HttpConnection::is_readable() const {
  return begin_ < end_ || wait(POLLIN, read_deadline_) != 0;
}

bool HttpConnection::is_writable() const {
  return !has_failed_ && wait(POLLOUT, Clock::now() + kWriteTimeout) == POLLOUT;
}

ssize_t HttpConnection::read(char* bytes, size_t n_bytes) {
  const size_t n_wanted = std::min(n_bytes, static_cast<size_t>(n_allowed_bytes_));
  if (n_wanted == 0) return n_bytes == 0 ? 0 : -1;
  while (begin_ == end_) {
    if (wait(POLLIN, read_deadline_) == 0) return -1;
    const ssize_t n_received = recv(socket_, buffer_, sizeof buffer_, MSG_DONTWAIT);
    if (n_received > 0) {
      begin_ = 0;
      end_ = static_cast<size_t>(n_received);
    } else if (n_received == 0) {
      return 0;
    } else if (errno != EINTR && errno != EAGAIN) {
      return -1;
    }
  }
  const size_t n_read = std::min(n_wanted, end_ - begin_);
  std::memcpy(bytes, buffer_ + begin_, n_read);
  begin_ += n_read;
  n_allowed_bytes_ -= static_cast<int64_t>(n_read);
  return static_cast<ssize_t>(n_read);
}

ssize_t HttpConnection::write(const char* bytes, size_t n_bytes) {
  size_t n_sent = 0;
  while (n_sent < n_bytes && !has_failed_) {
    const ssize_t n = send(socket_, bytes + n_sent, n_bytes - n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      n_sent += static_cast<size_t>(n);
      n_written_bytes_ += n;
    } else if (errno == EAGAIN) {
      has_failed_ = !is_writable();
    } else if (errno != EINTR) {
      has_failed_ = true;
    }
  }
  return has_failed_ ? -1 : static_cast<ssize_t>(n_bytes);
}

void HttpConnection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    address_text(address, ip, port);
  }
}

void HttpConnection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    address_text(address, ip, port);
  }
}

}  // namespace flexq_tool
