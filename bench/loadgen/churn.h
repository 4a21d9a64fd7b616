// Churn: connect, one message, its echo, close, and again, in a fixed number of slots. What it costs a server to have a connection.
//
// The client closes first and normally, as a user does who has what he wanted. So the client's side is the one in TIME_WAIT, for a
// minute, and its port towards this server with it (tcp(7), RFC 9293). A reset would avoid that, but is not what users do; a server
// that closes first would keep the TIME_WAITs itself, but an echo server does not know when it is done. Instead, on loopback, the
// cycles come from 16 source addresses in turn (127.0.1.1 to 127.0.1.16): 16 x 28,232 ports are more than the 262,144 that the
// kernel keeps at most in TIME_WAIT by default (tcp_max_tw_buckets), so there is always a free one, whatever tcp_tw_reuse says, and
// it is found soon. To other hosts there is one source address and the kernel's limit, and "Cannot assign requested address" is
// counted like any failure.
//
// What is kept true: every byte is verified; a cycle that fails or takes longer than 5 seconds is counted, is no reason to end the
// program, and its slot begins another; when no cycle at all has been completed for 10 seconds, the program ends.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "histogram.h"
#include "poller.h"
#include "report.h"
#include "stream.h"

class Churn {
 public:
  Churn(const Options& options, const Target& target, const Script& script)
      : spin_(options.spin), target_(target), script_(script), wire_(script, "cycle", 0), slots_(options.connections) {}

  /** One cycle in each slot. */
  void open() {
    for (size_t place = 0; place < slots_.size(); place++) begin(place);
    finish();
    first_failures_ = failures_;
    established_ = slots_.size() - failures_;
  }

  void start() {
    running_ = true;
    for (size_t place = 0; place < slots_.size(); place++) free_.push_back(place);
  }

  void drive(double seconds) {
    const uint64_t end = now() + static_cast<uint64_t>(seconds * 1e9);
    last_progress_ = now();
    while (now() < end) turn(end);
  }

  void begin_window() {
    latencies_.clear();
    spare_.clear();
    failures_ = 0;
    first_failure_.clear();
  }

  void end_window() { counted_ = latencies_; }

  /** Begins no cycle and ends those that are under way. */
  void drain() {
    running_ = false;
    finish();
  }

  void close_all() {}  // Every cycle has closed its own.

  size_t established() const { return established_; }
  size_t failures() const { return first_failures_; }
  const std::string& first_failure() const { return first_failure_; }
  const SpareTime& spare() const { return spare_; }
  const Histogram& latencies() const { return counted_; }
  uint64_t round_trips() const { return counted_.total(); }

  /** Of the window, and of the cycles that were under way at its end. */
  void say_figures(double) const {
    std::printf("\"connectionErrors\":%zu,\"firstConnectionError\":%s,", failures_,
                failures_ > 0 ? quoted(first_failure_).c_str() : "null");
  }

 private:
  static constexpr uint64_t kCycleNanos = 5'000'000'000u;
  static constexpr uint64_t kLookEveryNanos = 500'000'000u;
  static constexpr uint32_t kSources = 16;
  static constexpr uint32_t kFirstSource = 256;  // 127.0.1.1

  struct Slot : Stream {
    size_t cycle = 0;    // its number, which decides its bytes
    uint64_t began = 0;  // at its connect(2)
    uint64_t heard = 0;  // when it last received something
  };

  void begin(size_t place) {
    Slot& slot = slots_[place] = Slot();
    slot.cycle = cycles_++;
    slot.fd = target_.socket_from(kFirstSource + static_cast<uint32_t>(slot.cycle % kSources));
    under_way_++;
    if (slot.fd < 0) return end(place, failure_of("socket", errno));
    slot.began = now();
    if (!target_.connect(slot.fd)) return end(place, failure_of("connect", errno));
    slot.queued = script_.request_bytes;
    // On loopback it is connected by now, and one epoll event is saved; elsewhere the kernel takes nothing yet.
    if (send(place)) poller_.watch(slot.fd, place, EPOLLIN | EPOLLET | (slot.blocked ? EPOLLOUT : 0u));
  }

  /** Returns false if the cycle is over. */
  bool send(size_t place) {
    Slot& slot = slots_[place];
    if (wire_.send(slot, slot.cycle)) return true;
    // Of a connection that was never made its first write tells.
    end(place, slot.sent == 0 ? failure_of("connect", wire_.error()) : wire_.reason());
    return false;
  }

  void receive(size_t place) {
    Slot& slot = slots_[place];
    const Io io = wire_.receive(slot, slot.cycle, [&](uint64_t time) { slot.heard = time; });
    if (slot.received == script_.response_bytes) complete(place);
    else if (io == Io::kEnded) end(place, wire_.reason());
  }

  void complete(size_t place) {
    last_progress_ = slots_[place].heard;
    latencies_.record(last_progress_ - slots_[place].began);
    release(place);
  }

  void end(size_t place, const std::string& reason) {
    failures_++;
    if (first_failure_.empty()) first_failure_ = reason;
    release(place);
  }

  void release(size_t place) {
    if (slots_[place].fd >= 0) close(slots_[place].fd);
    slots_[place].fd = -1;
    under_way_--;
    free_.push_back(place);
  }

  void turn(uint64_t until) {
    const uint64_t time = now();
    if (time > last_progress_ + kStallNanos) fail(kServerFailed, "the server has completed no cycle for 10 seconds");
    if (time >= next_look_) give_up_old(time);
    const bool begun = running_ && !free_.empty();
    if (begun) begin_free();
    const auto events = spin_ ? poller_.poll() : poller_.wait(std::min(until, next_look_));
    for (const epoll_event& event : events) {
      const size_t place = event.data.u64;
      if (slots_[place].blocked && (event.events & EPOLLOUT) && !send(place)) continue;
      // EPOLLERR and EPOLLHUP come unasked; the read then says what has happened.
      if (event.events & ~static_cast<uint32_t>(EPOLLOUT)) receive(place);
    }
    if (spin_ && !begun && events.empty()) spare_.add(now() - time);
  }

  /** Those that fail at once are free again for the next turn, which without --spin waits: hammering would help nobody. */
  void begin_free() {
    begun_.swap(free_);
    for (const size_t place : begun_) begin(place);
    begun_.clear();
  }

  void finish() {
    last_progress_ = now();
    while (under_way_ > 0) turn(UINT64_MAX);
    free_.clear();
  }

  void give_up_old(uint64_t time) {
    next_look_ = time + kLookEveryNanos;
    for (size_t place = 0; place < slots_.size(); place++) {
      if (slots_[place].fd >= 0 && time - slots_[place].began > kCycleNanos) end(place, "no echo within 5 seconds");
    }
  }

  const bool spin_;
  const Target& target_;
  const Script& script_;
  Wire wire_;
  Poller poller_;
  std::vector<Slot> slots_;
  std::vector<size_t> free_;   // slots without a cycle
  std::vector<size_t> begun_;  // scratch of begin_free()
  Histogram latencies_;
  Histogram counted_;
  SpareTime spare_;
  bool running_ = false;
  size_t cycles_ = 0;
  size_t under_way_ = 0;
  size_t established_ = 0;
  size_t failures_ = 0;        // since the window began, or since the start
  size_t first_failures_ = 0;  // of the first cycles
  uint64_t last_progress_ = 0;
  uint64_t next_look_ = 0;     // for cycles that are too old
  std::string first_failure_;
};
