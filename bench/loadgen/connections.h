// Connections that are opened once and stay. It opens them and waits for one echo on each; what is said on them after that is the
// business of a shape (closed_loop.h, open_loop.h, flood.h), which knows them by their place and keeps what it needs of each in a
// `Connection` of its own, derived from Stream.
//
// What is kept true: nothing waits without a deadline; a connection that fails before its first echo is counted, one that fails
// later ends the program.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "poller.h"
#include "stream.h"

template <class Connection>
class Connections {
 public:
  /** `first` is the number of the one in place 0: numbers decide source addresses and bytes, and differ in the whole program. */
  Connections(const Target& target, const Script& script, bool spin, const char* name, size_t first, size_t count)
      : wire(script, name, first), target_(target), spin_(spin), name_(name), first_(first), connections_(count) {}
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  size_t size() const { return connections_.size(); }
  Connection& operator[](size_t place) { return connections_[place]; }
  const Connection& operator[](size_t place) const { return connections_[place]; }
  bool is_open(size_t place) const { return connections_[place].state == Stream::State::kOpen; }

  /**
   * Opens connections until `count` have been tried, and waits for one echo on each. At most 128 are under way at a time:
   * more would overflow the accept queue of some servers, and what was measured would be the kernel's retry timer.
   */
  void open_up_to(size_t count) {
    const uint64_t deadline = now() + kSetupNanos;
    last_progress_ = now();
    while (opened_ < count || opening_ > 0) {
      while (opened_ < count && opening_ < 128) connect_next();
      const uint64_t limit = std::min(deadline, last_progress_ + kOpeningStallNanos);
      if (now() >= limit) return give_up_opening(count);
      handle(spin_ ? poller.poll() : poller.wait(limit));
    }
  }

  /** By place; -1 of one that failed. */
  std::vector<int> descriptors() const {
    std::vector<int> all;
    for (const Connection& connection : connections_) all.push_back(connection.fd);
    return all;
  }

  /** Leaves the waiting to somebody else. */
  void unwatch() {
    for (const Connection& connection : connections_) {
      if (connection.fd >= 0) poller.unwatch(connection.fd);
    }
  }

  /** Handles what there is on connections on which nothing is to be said: anything but silence ends the program. */
  void stay_silent() { handle(poller.poll()); }

  /** Closes with a reset: a normal close would leave a port in TIME_WAIT per connection, and the next sample without ports. */
  void close_all() {
    const linger reset{1, 0};
    for (Connection& connection : connections_) {
      if (connection.fd < 0) continue;
      setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(connection.fd);
      connection.fd = -1;
    }
  }

  /** A connection that had its first echo and has ended since: the server has failed. */
  [[noreturn]] void lost(size_t place) const {
    fail(kServerFailed, "%s %zu of %zu ended after %llu bytes: %s", name_, place + 1, connections_.size(),
         static_cast<unsigned long long>(connections_[place].received), wire.reason().c_str());
  }

  size_t established() const { return established_; }
  size_t failures() const { return failures_; }
  const std::string& first_failure() const { return first_failure_; }

  Wire wire;
  Poller poller;

 private:
  using State = Stream::State;

  static constexpr uint64_t kSetupNanos = 60'000'000'000u;
  static constexpr uint64_t kOpeningStallNanos = 5'000'000'000u;

  void connect_next() {
    const size_t place = opened_++;
    Connection& connection = connections_[place];
    connection.state = State::kConnecting;
    opening_++;
    connection.fd = target_.socket_from(Target::source_of(first_ + place));
    if (connection.fd < 0) return drop(place, failure_of("socket", errno));
    if (!target_.connect(connection.fd)) return drop(place, failure_of("connect", errno));
    // Edge-triggered, unlike the servers: the kernel need not look at every socket again after its event, which makes the
    // generator cheaper than the fastest server. So a read goes on until it is short, and a write until it is.
    poller.watch(connection.fd, place, EPOLLIN | EPOLLOUT | EPOLLET);
  }

  void handle(std::span<const epoll_event> ready) {
    for (const epoll_event& event : ready) {
      const size_t place = event.data.u64;
      Connection& connection = connections_[place];
      if (connection.state == State::kConnecting) connected(place);
      else if (connection.blocked && (event.events & EPOLLOUT)) send(place);
      // EPOLLERR and EPOLLHUP come unasked; the read then says what has happened.
      if (connection.fd >= 0 && (event.events & ~static_cast<uint32_t>(EPOLLOUT))) receive(place);
    }
  }

  void connected(size_t place) {
    Connection& connection = connections_[place];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return drop(place, failure_of("connect", error));
    connection.state = State::kFirstEcho;
    connection.queued = wire.script.request_bytes;
    send(place);
  }

  void send(size_t place) {
    if (!wire.send(connections_[place], place)) drop(place, wire.reason());
  }

  void receive(size_t place) {
    Connection& connection = connections_[place];
    const Io io = wire.receive(connection, place, [&](uint64_t time) { last_progress_ = time; });
    if (io == Io::kEnded && connection.state == State::kOpen) lost(place);
    if (io == Io::kEnded) return drop(place, wire.reason());
    if (connection.state != State::kFirstEcho || connection.received < wire.script.response_bytes) return;
    connection.state = State::kOpen;
    established_++;
    opening_--;
  }

  void drop(size_t place, const std::string& reason) {
    Connection& connection = connections_[place];
    if (failures_++ == 0) first_failure_ = reason;
    connection.state = State::kFailed;
    if (connection.fd >= 0) close(connection.fd);
    connection.fd = -1;
    opening_--;
    last_progress_ = now();
  }

  void give_up_opening(size_t count) {
    for (size_t place = 0; place < opened_; place++) {
      const State state = connections_[place].state;
      if (state == State::kConnecting || state == State::kFirstEcho) drop(place, "no echo within 5 seconds");
    }
    failures_ += count - opened_;
    opened_ = count;
  }

  const Target& target_;
  const bool spin_;
  const char* name_;
  const size_t first_;
  std::vector<Connection> connections_;
  size_t opened_ = 0;
  size_t opening_ = 0;
  size_t established_ = 0;
  size_t failures_ = 0;
  uint64_t last_progress_ = 0;
  std::string first_failure_;
};
