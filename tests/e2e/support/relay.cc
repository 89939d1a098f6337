#include "tests/e2e/support/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {
namespace {

constexpr size_t kMostBytes = 64 << 10;   // held for one side
constexpr int kLookMs = 20;               // how soon Cut, Mend and the end are noticed

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

Relay::Relay(int to_port) : to_port_(to_port), port_(FreePort()) {
  const sockaddr_in address = Loopback(port_);
  listen_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listen_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listen_, 16) != 0) Fail("the relay has no port");
  thread_ = std::thread([this] { Run(); });
}

Relay::~Relay() {
  stop_ = true;
  thread_.join();
  for (Pair& pair : pairs_) {
    for (Side& side : pair.sides) close(side.fd);
  }
  close(listen_);
}

void Relay::Accept() {
  const int in = accept4(listen_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (in < 0) return;
  const sockaddr_in address = Loopback(to_port_);
  const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connect(out, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
    close(in);
    close(out);
    return;
  }
  Pair& pair = pairs_.emplace_back();
  pair.sides[0].fd = in;
  pair.sides[1].fd = out;
}

bool Relay::Move(Pair& pair) {
  for (int from = 0; from < 2; ++from) {
    Side& source = pair.sides[from];
    Side& sink = pair.sides[1 - from];
    while (!source.ended && sink.bytes.size() < kMostBytes) {
      char piece[16 << 10];
      const ssize_t n = recv(source.fd, piece, sizeof piece, 0);
      if (n > 0) {
        sink.bytes.append(piece, static_cast<size_t>(n));
        continue;
      }
      if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) break;
      source.ended = true;
    }
    while (!sink.bytes.empty()) {
      const ssize_t n = send(sink.fd, sink.bytes.data(), sink.bytes.size(), MSG_NOSIGNAL);
      if (n > 0) {
        sink.bytes.erase(0, static_cast<size_t>(n));
        continue;
      }
      if (errno != EAGAIN && errno != EINTR && errno != ENOTCONN) return false;
      break;
    }
    if (source.ended && sink.bytes.empty()) return false;   // neither of ours closes one direction only
  }
  return true;
}

void Relay::Run() {
  while (!stop_) {
    std::vector<pollfd> wait;
    if (!cut_) {
      wait.push_back({listen_, POLLIN, 0});
      for (const Pair& pair : pairs_) {
        for (int i = 0; i < 2; ++i) {
          const Side& side = pair.sides[i];
          const bool has_room = !side.ended && pair.sides[1 - i].bytes.size() < kMostBytes;
          wait.push_back({side.fd, static_cast<short>((has_room ? POLLIN : 0) | (side.bytes.empty() ? 0 : POLLOUT)), 0});
        }
      }
    }
    poll(wait.data(), wait.size(), kLookMs);
    const std::lock_guard lock(moving_);
    if (cut_) continue;
    Accept();
    for (auto pair = pairs_.begin(); pair != pairs_.end();) {
      if (Move(*pair)) {
        ++pair;
        continue;
      }
      for (Side& side : pair->sides) close(side.fd);
      pair = pairs_.erase(pair);
    }
  }
}

}  // namespace orgtrail::e2e
