// Connections that send without pause: each keeps its socket full and takes back whatever comes. They are no measured load but the
// neighbours of one, and show how a server divides itself between those who always want something and those who seldom do.
//
// What is kept true: all that comes back is verified, to the last byte. A step handles one event of one connection and at most one
// piece of 64 KiB in each direction, so that the measured messages, which share the core, never wait for longer than that takes.
#pragma once

#include "connections.h"

class Flood {
 public:
  Flood(const Options& options, const Target& target, const Script& script)
      : spin_(options.spin),
        script_(script),
        connections_(target, script, options.spin, "flooder", options.idle_connections + options.connections, options.flooders) {}

  void open() {
    connections_.open_up_to(connections_.size());
    if (connections_.failures() > 0) {
      fail(kNotConnected, "%zu of %zu flooders did not connect: %s", connections_.failures(), connections_.size(),
           connections_.first_failure().c_str());
    }
  }

  void start() {
    for (size_t i = 0; i < connections_.size(); i++) {
      connections_[i].queued = UINT64_MAX;
      // With more, an acknowledgement has the kernel send megabytes before it returns from whatever the generator had called.
      const int bytes = Pattern::kLongest;
      for (const int buffer : {SO_SNDBUF, SO_RCVBUF}) setsockopt(connections_[i].fd, SOL_SOCKET, buffer, &bytes, sizeof bytes);
      // Level-triggered, unlike the others: what a step has left over is there again in the next one, when it is its turn.
      one_by_one_.watch(connections_[i].fd, i, EPOLLIN | EPOLLOUT);
    }
  }

  /** Returns false if nothing could be sent and nothing was there. */
  bool step() {
    const auto ready = one_by_one_.poll();
    for (const epoll_event& event : ready) {
      const size_t index = event.data.u64;
      if (event.events & ~static_cast<uint32_t>(EPOLLOUT)) receive(index);
      if (event.events & EPOLLOUT) send(index);
    }
    return !ready.empty();
  }

  /** Ends what has been begun: whole messages, all of whose bytes come back. */
  void drain() {
    last_progress_ = now();
    for (size_t i = 0; i < connections_.size(); i++) {
      Stream& stream = connections_[i];
      stream.queued = (stream.sent + script_.request_bytes - 1) / script_.request_bytes * script_.request_bytes;
      send(i);
    }
    while (!is_done()) {
      const uint64_t limit = last_progress_ + kStallNanos;
      if (now() > limit) fail(kServerFailed, "a flooder's bytes never came back in full");
      if (!step() && !spin_) Poller::sleep({&one_by_one_}, limit + 1);
    }
  }

  void close_all() { connections_.close_all(); }
  const Poller& poller() const { return one_by_one_; }
  bool any() const { return connections_.size() > 0; }

  void begin_window() { returned_ = 0; }
  /** How many bytes have come back since the window began. */
  uint64_t returned() const { return returned_; }

 private:
  bool is_done() const {
    for (size_t i = 0; i < connections_.size(); i++) {
      const Stream& stream = connections_[i];
      if (stream.sent < stream.queued || stream.received < script_.due(stream.sent)) return false;
    }
    return true;
  }

  void send(size_t index) {
    Stream& stream = connections_[index];
    if (!connections_.wire.send_at_most(stream, index, Pattern::kLongest)) connections_.lost(index);
    if (stream.sent == stream.queued) one_by_one_.watch_again(stream.fd, index, EPOLLIN);
  }

  void receive(size_t index) {
    Stream& stream = connections_[index];
    const uint64_t before = stream.received;
    const Io io = connections_.wire.receive_at_most(stream, index, Pattern::kLongest, [&](uint64_t time) { last_progress_ = time; });
    if (io == Io::kEnded) connections_.lost(index);
    returned_ += stream.received - before;
  }

  const bool spin_;
  const Script& script_;
  Connections<Stream> connections_;
  Poller one_by_one_{1};
  uint64_t returned_ = 0;
  uint64_t last_progress_ = 0;
};
