// Closed loop: every connection has a fixed number of messages in flight, and the next is sent when one has come back in full. So
// the server is never asked for more than it answers, and the rate is its capacity; the latencies are those of a saturated server.
//
// Connections are opened with epoll. What is said on them then goes through io_uring (ring.h) if the kernel has it and all that a connection
// has in flight is small, for there the system calls are most of the generator's work; otherwise through epoll, recv(2) and send(2).
#pragma once

#include "connections.h"
#include "histogram.h"
#include "ring.h"

class ClosedLoop {
 public:
  ClosedLoop(const Options& options, const Target& target, const Script& script)
      : spin_(options.spin),
        wants_ring_(!options.no_ring && options.in_flight * std::max(script.request_bytes, script.response_bytes) <= kSmall),
        limit_(options.in_flight),
        script_(script),
        connections_(target, script, options.spin, "connection", options.idle_connections, options.connections),
        sent_at_(options.connections * options.in_flight) {}

  void open() {
    connections_.open_up_to(connections_.size());
    if (wants_ring_) ring_ = Ring::open(connections_.descriptors());
    if (ring_ == nullptr) return;
    connections_.unwatch();
    for (size_t i = 0; i < connections_.size(); i++) {
      if (connections_.is_open(i)) ring_->receive(i);
    }
  }

  /** Puts the chosen number of messages in flight on every connection. */
  void start() {
    running_ = true;
    for (size_t i = 0; i < connections_.size(); i++) {
      if (!connections_.is_open(i)) continue;
      connections_[i].message = connections_[i].received;
      queue(i, limit_, now());
    }
  }

  /** Drives all connections for so long; a server that answers nothing for 10 seconds ends the program. */
  void drive(double seconds) {
    const uint64_t end = now() + static_cast<uint64_t>(seconds * 1e9);
    last_progress_ = now();
    while (now() < end) {
      if (now() - last_progress_ > kStallNanos) fail(kServerFailed, "the server has echoed nothing for 10 seconds");
      turn(std::min(end, last_progress_ + kStallNanos + 1));
    }
  }

  void begin_window() {
    latencies_.clear();
    spare_.clear();
  }

  void end_window() { counted_ = latencies_; }

  /** Sends nothing new and receives what is still on its way, so that its bytes are verified too. */
  void drain() {
    running_ = false;
    last_progress_ = now();
    while (pending_ > 0) {
      if (now() - last_progress_ > kStallNanos) {
        fail(kServerFailed, "%zu messages never came back in full", static_cast<size_t>(pending_));
      }
      turn(last_progress_ + kStallNanos + 1);
    }
  }

  void close_all() {
    ring_.reset();
    connections_.close_all();
  }

  size_t established() const { return connections_.established(); }
  size_t failures() const { return connections_.failures(); }
  const std::string& first_failure() const { return connections_.first_failure(); }
  const SpareTime& spare() const { return spare_; }
  const Histogram& latencies() const { return counted_; }
  uint64_t round_trips() const { return counted_.total(); }
  void say_figures(double) const {}  // No others than every shape has.

 private:
  static constexpr uint64_t kLongestPause = 20'000;
  static constexpr size_t kLongestBurst = 32;
  static constexpr size_t kSmall = 16 * 1024;
  static_assert(kSmall <= Pattern::kLongest);
  /** The kernel completes about twenty receives per call; so many share its cost well enough. */
  static constexpr size_t kEnough = 16;
  static constexpr uint32_t kNone = UINT32_MAX;

  /** One cache line: with thousands of connections each echo would otherwise cost the generator a second miss. */
  struct alignas(64) Connection : Stream {
    uint64_t message = 0;   // where the message that is being received began
    uint32_t first = 0;     // ring of send times: the oldest message in flight
    uint32_t in_flight = 0;
    uint32_t older = kNone;  // the list of connections with messages in flight, by their last send
    uint32_t newer = kNone;
  };
  static_assert(sizeof(Connection) == 64);

  /** Messages that a connection may send next. */
  struct Due {
    size_t index;
    size_t messages;
  };

  void queue(size_t index, size_t messages, uint64_t time) {
    Connection& connection = connections_[index];
    connection.queued += messages * script_.request_bytes;
    pending_ += messages;
    for (size_t i = 0; i < messages; i++) {
      sent_at_[index * limit_ + (connection.first + connection.in_flight++) % limit_] = time;
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
    if (ring_ != nullptr) return send_ring(index);
    if (connection.blocked) blocked_--;
    if (!connections_.wire.send(connection, index)) connections_.lost(index);
    if (connection.blocked) blocked_++;
  }

  void send_ring(size_t index) {
    Connection& connection = connections_[index];
    ring_->send(index, connections_.wire.outgoing(connection, index), connection.queued - connection.sent);
    connection.sent = connection.queued;
    connection.blocked = true;
  }

  /** Returns false if nothing was there. */
  bool receive(size_t index) {
    const Io io = connections_.wire.receive(connections_[index], index, [&](uint64_t time) { take(index, time); });
    if (io == Io::kEnded) connections_.lost(index);
    return io != Io::kNothing;
  }

  /** What has been received: counted, and answered with as many messages as are now complete. */
  void take(size_t index, uint64_t time) {
    Connection& connection = connections_[index];
    last_progress_ = time;
    size_t messages = 0;
    while (connection.received >= connection.message + script_.response_bytes) {
      connection.message += script_.response_bytes;
      latencies_.record(time - sent_at_[index * limit_ + connection.first]);
      connection.first = connection.first + 1 == limit_ ? 0 : connection.first + 1;
      connection.in_flight--;
      messages++;
    }
    if (messages == 0) return;
    pending_ -= messages;
    unlink(index);
    if (!running_) return;
    due_.push_back({index, messages});
    // An eighth of the connections: the server has the others to go on with.
    if (due_.size() >= std::min(kLongestBurst, established() / 8)) send_due();
  }

  /**
   * Receives first and sends then, in bursts. One send after each receive would wake a server that has run out of messages once per message,
   * which costs more than the message, and keeps the generator too slow for the server ever to have two: in a burst the first send wakes it.
   */
  void send_due() {
    const uint64_t time = now();
    for (const Due& due : due_) queue(due.index, due.messages, time);
    due_.clear();
    if (ring_ != nullptr) ring_->submit();
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
    for (size_t i = 0; all && i < Poller::kBatch; i++) all = oldest_ != kNone && receive(oldest_);
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
    spare_.add(time - begin);
  }

  void turn_ring(uint64_t until) {
    if (spin_ && running_) gather();
    const uint64_t time = now();
    if (spin_) ring_->poll();
    else ring_->wait(until > time ? until - time : 0);
    const uint64_t here = now();  // when all of this turn's was
    const auto received = [&](size_t index, const char* bytes, ssize_t result) {
      if (!connections_.wire.received(connections_[index], index, bytes, result)) connections_.lost(index);
      take(index, here);
    };
    const auto sent = [&](size_t index, ssize_t result) {
      if (!connections_.wire.sent(result)) connections_.lost(index);
      connections_[index].blocked = false;
      if (connections_[index].sent < connections_[index].queued) send(index);
    };
    const size_t pieces = ring_->complete(received, sent);
    if (pieces == 0 && spin_) spare_.add(here - time);
    pause_ = pieces < std::min(kEnough, established() / 8) ? std::min(pause_ + 250, kLongestPause) : pause_ / 2;
    send_due();
  }

  void turn(uint64_t until) {
    if (ring_ != nullptr) return turn_ring(until);
    if (behind_ && running_ && blocked_ == 0 && guess()) return;
    if (spin_ && running_) gather();
    const uint64_t time = now();
    const auto events = spin_ ? connections_.poller.poll() : connections_.poller.wait(until);
    if (events.empty() && spin_) spare_.add(now() - time);
    pause_ = events.size() < established() / 8 ? std::min(pause_ + 250, kLongestPause) : pause_ / 2;
    behind_ = events.size() >= std::clamp<size_t>(established() / 2, 16, Poller::kBatch);
    for (size_t i = 0; i < events.size(); i++) {
      const size_t index = events[i].data.u64;
      if (i + 1 < events.size()) {
        const size_t next = events[i + 1].data.u64;
        __builtin_prefetch(&connections_[next]);
        __builtin_prefetch(&sent_at_[next * limit_]);
      }
      if (connections_[index].blocked && (events[i].events & EPOLLOUT)) send(index);
      // EPOLLERR and EPOLLHUP come unasked; the read then says what has happened.
      if (events[i].events & ~static_cast<uint32_t>(EPOLLOUT)) receive(index);
    }
    send_due();
  }

  const bool spin_;
  const bool wants_ring_;
  const size_t limit_;  // of messages in flight on a connection
  const Script& script_;
  Connections<Connection> connections_;
  std::unique_ptr<Ring> ring_;  // null: epoll
  std::vector<uint64_t> sent_at_;  // `limit_` entries per connection
  std::vector<Due> due_;
  Histogram latencies_;
  Histogram counted_;
  SpareTime spare_;
  bool running_ = false;
  uint32_t oldest_ = kNone;  // ends of the list of connections with messages in flight
  uint32_t newest_ = kNone;
  size_t blocked_ = 0;       // how many connections could not send everything: only epoll knows when they can
  bool behind_ = false;      // at least half of the connections, or a full batch, was ready at once
  uint64_t pending_ = 0;
  uint64_t last_progress_ = 0;
  uint64_t pause_ = 0;       // nanoseconds to let answers gather
};
