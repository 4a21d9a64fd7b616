// The generator's connections and the loop that drives them. Closed loop: every connection has a fixed number of messages
// in flight, and the next is sent when one has come back in full. So the server is never asked for more than it answers,
// and the rate is its capacity; the latencies are those of a saturated server.
//
// What is kept true: every byte received is compared with the byte sent; nothing waits without a deadline; a connection
// that fails before its first echo is counted, one that fails later ends the program.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "clock.h"
#include "failure.h"
#include "histogram.h"
#include "options.h"
#include "pattern.h"

class Clients {
 public:
  explicit Clients(const Options& options)
      : options_(options),
        sent_pattern_(options.request.empty() ? Pattern() : Pattern(options.request)),
        expected_(options.response.empty() ? Pattern() : Pattern(options.response)),
        response_bytes_(options.response.empty() ? options.message_bytes : options.response.size()),
        connections_(options.connections),
        sent_at_(options.connections * options.in_flight),
        received_(256 * 1024) {
    if (epoll_ < 0) fail(kSystem, "epoll_create1: %s", std::strerror(errno));
    address_.sin_family = AF_INET;
    address_.sin_port = htons(static_cast<uint16_t>(options.port));
    if (inet_pton(AF_INET, options.host.c_str(), &address_.sin_addr) != 1) usage("--host must be an IPv4 address");
  }
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  /**
   * Opens connections until `count` have been tried, and waits for one echo on each. At most 128 are under way at a time:
   * more would overflow the accept queue of some servers, and what was measured would be the kernel's retry timer.
   */
  void open_up_to(size_t count) {
    const uint64_t deadline = now() + kSetupNanos;
    last_progress_ = now();
    target_ = count;
    while (opened_ < target_ || opening_ > 0) {
      while (opened_ < target_ && opening_ < 128) connect_next();
      const uint64_t limit = std::min(deadline, last_progress_ + kOpeningStallNanos);
      if (now() >= limit) return give_up_opening();
      wait(limit);
    }
  }

  /** Puts the chosen number of messages in flight on every connection. */
  void start() {
    running_ = true;
    for (size_t i = 0; i < opened_; i++) {
      if (connections_[i].state == State::kOpen) queue(i, options_.in_flight, now());
    }
  }

  /** Drives all connections for so long; a server that answers nothing for 10 seconds ends the program. */
  void drive(double seconds) {
    const uint64_t end = now() + static_cast<uint64_t>(seconds * 1e9);
    last_progress_ = now();
    while (now() < end) {
      if (now() - last_progress_ > kStallNanos) fail(kServerFailed, "the server has echoed nothing for 10 seconds");
      wait(std::min(end, last_progress_ + kStallNanos + 1));
    }
  }

  /** Sends nothing new and receives what is still on its way, so that its bytes are verified too. */
  void drain() {
    running_ = false;
    last_progress_ = now();
    while (pending_ > 0) {
      if (now() - last_progress_ > kStallNanos) {
        fail(kServerFailed, "%zu messages never came back in full", static_cast<size_t>(pending_));
      }
      wait(last_progress_ + kStallNanos + 1);
    }
  }

  /** Handles what is ready; for a caller that waits on `fd()` together with something else. */
  void poll() { wait(now()); }
  int fd() const { return epoll_; }

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

  void forget_warmup() {
    latencies_.clear();
    spun_ = 0;
  }
  const Histogram& latencies() const { return latencies_; }
  /** Nanoseconds that went into polling in vain since the warm-up. */
  uint64_t spun() const { return spun_; }
  size_t established() const { return established_; }
  size_t failures() const { return failures_; }
  const std::string& first_failure() const { return first_failure_; }

 private:
  static constexpr uint64_t kSetupNanos = 60'000'000'000u;
  static constexpr uint64_t kOpeningStallNanos = 5'000'000'000u;
  static constexpr uint64_t kStallNanos = 10'000'000'000u;

  static constexpr uint64_t kLongestPause = 20'000;

  static constexpr uint32_t kNone = UINT32_MAX;

  enum class State : uint8_t { kUnused, kConnecting, kFirstEcho, kOpen, kFailed };

  /** One cache line: with thousands of connections each echo would otherwise cost the generator a second miss. */
  struct alignas(64) Connection {
    int fd = -1;
    State state = State::kUnused;
    bool blocked = false;   // the kernel took less than was offered
    uint64_t sent = 0;      // stream positions, in bytes
    uint64_t queued = 0;    // what has been or may be sent
    uint64_t received = 0;
    uint64_t message = 0;   // where the message that is being received began
    uint32_t first = 0;     // ring of send times: the oldest message in flight
    uint32_t in_flight = 0;
    uint32_t older = kNone;  // the list of connections with messages in flight, by their last send
    uint32_t newer = kNone;
  };

  /** Messages that a connection may send next. */
  struct Due {
    size_t index;
    size_t messages;
  };
  static constexpr size_t kLongestBurst = 32;

  void connect_next() {
    const size_t index = opened_++;
    Connection& connection = connections_[index];
    connection.state = State::kConnecting;
    opening_++;
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection.fd < 0) return drop(index, std::string("socket: ") + std::strerror(errno));
    const int on = 1;
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bind_source(connection.fd, index);
    if (connect(connection.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) < 0 && errno != EINPROGRESS) {
      return drop(index, std::string("connect: ") + std::strerror(errno));
    }
    // Edge-triggered, unlike the servers: the kernel need not look at every socket again after its event, which makes the
    // generator cheaper than the fastest server. So a read goes on until it is short, and a write until it is.
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u64 = index;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) < 0) fail(kSystem, "epoll_ctl: %s", std::strerror(errno));
  }

  /**
   * On loopback every 8192 connections get a source address of their own (127.0.0.2, ...). From one address connect(2) has
   * to search for a free port among ever more taken ones, half a millisecond each near the end, and there are only 28,000.
   */
  void bind_source(int fd, size_t index) const {
    constexpr size_t kPerAddress = 8192;
    if ((ntohl(address_.sin_addr.s_addr) >> 24) != 127 || index < kPerAddress) return;
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr = htonl(static_cast<uint32_t>(INADDR_LOOPBACK + index / kPerAddress));
    const int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source);  // Failing leaves the default address.
  }

  void give_up_opening() {
    for (size_t i = 0; i < opened_; i++) {
      const State state = connections_[i].state;
      if (state == State::kConnecting || state == State::kFirstEcho) drop(i, "no echo within 5 seconds");
    }
    failures_ += target_ - opened_;
    opened_ = target_;
  }

  void connected(size_t index) {
    Connection& connection = connections_[index];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return drop(index, std::string("connect: ") + std::strerror(error));
    connection.state = State::kFirstEcho;
    queue(index, 1, now());
  }

  /** A connection that ends. Before its first echo that is counted; later it means that the server has failed. */
  void drop(size_t index, const std::string& reason) {
    Connection& connection = connections_[index];
    if (connection.state == State::kOpen) {
      fail(kServerFailed, "connection %zu of %zu ended after %llu bytes: %s", index + 1, connections_.size(),
           static_cast<unsigned long long>(connection.received), reason.c_str());
    }
    if (failures_++ == 0) first_failure_ = reason;
    pending_ -= connection.in_flight;
    unlink(index);
    connection.state = State::kFailed;
    if (connection.fd >= 0) close(connection.fd);
    connection.fd = -1;
    opening_--;
    last_progress_ = now();
  }

  void queue(size_t index, size_t messages, uint64_t time) {
    Connection& connection = connections_[index];
    connection.queued += messages * options_.message_bytes;
    pending_ += messages;
    for (size_t i = 0; i < messages; i++) {
      sent_at_[index * options_.in_flight + (connection.first + connection.in_flight++) % options_.in_flight] = time;
    }
    unlink(index);
    connection.older = newest_;
    (newest_ == kNone ? oldest_ : connections_[newest_].newer) = static_cast<uint32_t>(index);
    newest_ = static_cast<uint32_t>(index);
    if (!connection.blocked) send(index);
  }

  void unlink(size_t index) {
    Connection& connection = connections_[index];
    if (connection.older == kNone && oldest_ != index) return;
    (connection.older == kNone ? oldest_ : connections_[connection.older].newer) = connection.newer;
    (connection.newer == kNone ? newest_ : connections_[connection.newer].older) = connection.older;
    connection.older = connection.newer = kNone;
  }

  void send(size_t index) {
    Connection& connection = connections_[index];
    if (connection.blocked) blocked_--;
    connection.blocked = false;
    while (connection.sent < connection.queued) {
      const size_t size = std::min<uint64_t>(connection.queued - connection.sent, Pattern::kLongest);
      const ssize_t sent = ::send(connection.fd, sent_pattern_.at(index, connection.sent), size, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return drop(index, std::string("write: ") + std::strerror(errno));
        connection.blocked = true;
        blocked_++;
        return;
      }
      connection.sent += static_cast<uint64_t>(sent);
    }
  }

  /** Returns false if nothing was there. */
  bool receive(size_t index) {
    Connection& connection = connections_[index];
    bool any = false;
    ssize_t size;
    do {
      size = ::recv(connection.fd, received_.data(), received_.size(), 0);
      if (size < 0 && errno == EAGAIN) return any;
      any = true;
      if (size > 0) take(index, static_cast<size_t>(size));
      else if (size == 0) drop(index, "the server closed it");
      else if (errno != EINTR) drop(index, std::string("read: ") + std::strerror(errno));
    } while (connection.fd >= 0 && (size < 0 || static_cast<size_t>(size) == received_.size()));
    return any;
  }

  /**
   * Once the generator falls behind, the server runs out of messages and sleeps; then each send has to wake it, and for that
   * the generator stays behind: with 1,000 connections most samples of the fastest servers were lost to this. While it is
   * behind it therefore saves epoll's work (an eighth of its time) and asks the connections in the order of their last
   * sends, which is about the order of the answers. The first that has nothing ends this, and epoll_wait(2) decides again:
   * asking connections in vain would disturb the server. Returns true if all that were asked had something.
   */
  bool guess() {
    bool all = true;
    for (size_t i = 0; all && i < events_.size(); i++) all = oldest_ != kNone && receive(oldest_);
    send_due();
    return all;
  }

  /**
   * A server that answers one by one would be asked after one by one, with an epoll_wait(2) per answer: a third more work than the server's,
   * and the generator would be the limit. So it waits a few microseconds, without a system call, until an eighth of the connections
   * is likely to have been answered; the server still has the others to go on with.
   */
  void gather() {
    if (pause_ == 0) return;
    const uint64_t begin = now();
    uint64_t time = begin;
    while (time - begin < pause_) time = now();
    spun_ += time - begin;
  }

  /** What has been received: verified, counted, and answered with as many messages as are now complete. */
  void take(size_t index, size_t size) {
    Connection& connection = connections_[index];
    const uint64_t time = now();
    last_progress_ = time;
    verify(index, size);
    connection.received += size;
    size_t messages = 0;
    while (connection.received >= connection.message + response_bytes_) {
      connection.message += response_bytes_;
      latencies_.record(time - sent_at_[index * options_.in_flight + connection.first]);
      connection.first = connection.first + 1 == options_.in_flight ? 0 : connection.first + 1;
      connection.in_flight--;
      messages++;
    }
    if (messages == 0) return;
    pending_ -= messages;
    unlink(index);
    if (connection.state == State::kFirstEcho) {
      connection.state = State::kOpen;
      established_++;
      opening_--;
    }
    if (!running_) return;
    due_.push_back({index, messages});
    // An eighth of the connections: the server has the others to go on with.
    if (due_.size() >= std::min(kLongestBurst, established_ / 8)) send_due();
  }

  /**
   * Receives first and sends then, in bursts. One send after each receive would wake a server that has run out of messages once per message,
   * which costs more than the message, and keeps the generator too slow for the server ever to have two: in a burst the first send wakes it.
   */
  void send_due() {
    const uint64_t time = now();
    for (const Due& due : due_) {
      if (connections_[due.index].fd >= 0) queue(due.index, due.messages, time);
    }
    due_.clear();
  }

  void verify(size_t index, size_t size) const {
    const Connection& connection = connections_[index];
    const uint64_t differs = expected_.mismatch(index, connection.received, received_.data(), size);
    // An echo may come back while its message is still being sent; an answer comes to a whole request.
    const uint64_t due =
        options_.request.empty() ? connection.sent : connection.sent / options_.message_bytes * response_bytes_;
    const uint64_t wrong = std::min(differs, due);
    if (wrong == connection.received + size) return;
    if (wrong == due) fail(kCorrupted, "connection %zu: the server sent more bytes than it was given", index + 1);
    fail(kCorrupted, "connection %zu: byte %llu came back as 0x%02x, not as 0x%02x", index + 1,
         static_cast<unsigned long long>(wrong),
         static_cast<unsigned char>(received_[static_cast<size_t>(wrong - connection.received)]),
         static_cast<unsigned char>(*expected_.at(index, wrong)));
  }

  /**
   * With --spin it polls instead of sleeping. To wake a sleeping generator costs the server's write(2) a good microsecond,
   * which over a real network it would not pay, and which falls on slow servers only: a fast one never lets it sleep.
   */
  void wait(uint64_t until) {
    const uint64_t time = now();
    if (behind_ && running_ && blocked_ == 0 && guess()) return;
    if (options_.spin && running_) gather();
    const uint64_t millis = until > time && !options_.spin ? (until - time + 999'999) / 1'000'000 : 0;
    const int ready = epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), static_cast<int>(millis));
    if (ready < 0 && errno != EINTR) fail(kSystem, "epoll_wait: %s", std::strerror(errno));
    if (ready == 0 && options_.spin) spun_ += now() - time;
    pause_ = static_cast<size_t>(std::max(ready, 0)) < established_ / 8 ? std::min(pause_ + 250, kLongestPause) : pause_ / 2;
    behind_ = ready >= static_cast<int>(std::clamp<size_t>(established_ / 2, 16, events_.size()));
    for (int i = 0; i < ready; i++) {
      const size_t index = events_[static_cast<size_t>(i)].data.u64;
      const uint32_t mask = events_[static_cast<size_t>(i)].events;
      if (i + 1 < ready) {
        const size_t next = events_[static_cast<size_t>(i) + 1].data.u64;
        __builtin_prefetch(&connections_[next]);
        __builtin_prefetch(&sent_at_[next * options_.in_flight]);
      }
      Connection& connection = connections_[index];
      if (connection.state == State::kConnecting) connected(index);
      else if (connection.blocked && (mask & EPOLLOUT)) send(index);
      // EPOLLERR and EPOLLHUP come unasked; the read then says what has happened.
      if (connection.fd >= 0 && (mask & ~static_cast<uint32_t>(EPOLLOUT))) receive(index);
    }
    send_due();
  }

  const Options options_;
  const Pattern sent_pattern_;
  const Pattern expected_;
  const size_t response_bytes_;  // of one message
  sockaddr_in address_{};
  int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 256> events_{};
  std::vector<Connection> connections_;
  std::vector<uint64_t> sent_at_;  // `in_flight` entries per connection
  std::vector<char> received_;
  std::vector<Due> due_;
  Histogram latencies_;
  bool running_ = false;
  uint32_t oldest_ = kNone;  // ends of the list of connections with messages in flight
  uint32_t newest_ = kNone;
  size_t blocked_ = 0;       // how many connections could not send everything: only epoll knows when they can
  bool behind_ = false;      // at least half of the connections, or a full batch, was ready at once
  size_t target_ = 0;
  size_t opened_ = 0;
  size_t opening_ = 0;
  size_t established_ = 0;
  size_t failures_ = 0;
  uint64_t pending_ = 0;
  uint64_t last_progress_ = 0;
  uint64_t spun_ = 0;
  uint64_t pause_ = 0;       // nanoseconds to let answers gather
  std::string first_failure_;
};
