// Open loop: messages leave by a fixed schedule, whatever the server does, as users do who do not know of each other. Message k is
// meant to leave k / rate seconds after the start, on the connections in turn, and its latency counts from then. Counted from the
// moment at which it did leave, a server that stalls would delay the very messages that would have shown it ("coordinated
// omission", Gil Tene; https://github.com/giltene/wrk2).
//
// What is kept true: every message whose moment lies in the window is accounted for: answered, unanswered two seconds after the
// window (and recorded with its age), or unsent, because more were under way than is bounded below or because the generator was
// too late. The schedule starts anew with the window, because to read the clock of a server with thousands of threads takes
// milliseconds, in which nobody could send.
//
// Messages that met a hiccup of the machine (hiccups.h) are counted apart, where its cores can be watched: they would be most of every
// percentile above the 98th, and tell of no server.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "connections.h"
#include "flood.h"
#include "hiccups.h"
#include "histogram.h"

class OpenLoop {
 public:
  OpenLoop(const Options& options, const Target& target, const Script& script)
      : spin_(options.spin),
        rate_(options.rate),
        watched_cores_(options.watched_cores),
        server_(options.server_pid),
        expected_(static_cast<size_t>(options.rate * options.seconds)),
        script_(script),
        connections_(target, script, options.spin, "connection", options.idle_connections, options.connections),
        flood_(options, target, script) {}

  void open() {
    connections_.open_up_to(connections_.size());
    if (connections_.established() > 0) flood_.open();
  }

  void start() {
    for (size_t i = 0; i < connections_.size(); i++) {
      if (!connections_.is_open(i)) continue;
      connections_[i].message = connections_[i].received;
      turns_.push_back(i);
    }
    flood_.start();
    watches_ = hiccups_.watch(watched_cores_, server_);
    // The kernel gives memory when it is touched, which would take milliseconds of the window.
    if (!watches_) return;
    taken_.resize(expected_ + expected_ / 8 + 1000);
    sent_.resize(taken_.size());
  }

  /** Sends what is to be sent within so many seconds from now; a server that answers nothing for 10 seconds ends the program. */
  void drive(double seconds) {
    const uint64_t begin = now();
    const uint64_t end = begin + static_cast<uint64_t>(seconds * 1e9);
    const auto moment_of = [&](uint64_t message) {
      return begin + static_cast<uint64_t>(static_cast<double>(message) * (1e9 / rate_));
    };
    uint64_t next = 0;
    // A generator that is late at the end may catch up, but not forever.
    for (uint64_t time = begin; time < end || (moment_of(next) < end && time < end + kGraceNanos); time = now()) {
      size_t sent = 0;
      for (; sent < kLongestBurst && moment_of(next) <= time && moment_of(next) < end; sent++, next++) {
        send_next(moment_of(next));
      }
      if (in_flight_ > 0 && time > last_progress_ + kStallNanos) fail(kServerFailed, "the server has echoed nothing for 10 seconds");
      turn(sent > 0, time, std::min(moment_of(next), end));
    }
    while (moment_of(next) < end) {
      next++;
      unsent_++;
    }
  }

  void begin_window() {
    window_begin_ = now();
    latencies_.clear();
    taken_.clear();
    sent_.clear();
    lateness_.clear();
    spare_.clear();
    flood_.begin_window();
    answered_ = completed_ = unsent_ = 0;
  }

  void end_window() {
    completed_in_window_ = completed_;
    flooded_ = flood_.returned();
  }

  /** Awaits the answers to the window's messages for up to two seconds; then those to the flood, which has to be verified too. */
  void drain() {
    const uint64_t limit = now() + kPatienceNanos;
    for (uint64_t time = now(); in_flight_ > 0 && time < limit; time = now()) turn(false, time, limit);
    for (size_t i = 0; i < connections_.size(); i++) {
      for (const uint64_t moment : connections_[i].moments) give_up(moment);
    }
    if (flood_.any()) flood_.drain();
    hiccups_.stop();
    for (const auto& [moment, end] : taken_) {
      if (hiccups_.meets(moment)) disturbed_++;
      else latencies_.record(end - moment);
    }
    for (const auto& [moment, time] : sent_) {
      if (!hiccups_.meets(moment)) lateness_.record(time - moment);
    }
  }

  void close_all() {
    connections_.close_all();
    flood_.close_all();
  }

  size_t established() const { return connections_.established(); }
  size_t failures() const { return connections_.failures(); }
  const std::string& first_failure() const { return connections_.first_failure(); }
  const SpareTime& spare() const { return spare_; }
  const Histogram& latencies() const { return latencies_; }
  uint64_t round_trips() const { return answered_; }

  void say_figures(double seconds) const {
    std::printf("\"intendedRate\":%.3f,\"achievedRate\":%.3f,\"lateMicrosP99\":%.3f,\"unsent\":%llu,\"unanswered\":%llu,", rate_,
                static_cast<double>(completed_in_window_) / seconds, static_cast<double>(lateness_.at(0.99)) / 1e3,
                static_cast<unsigned long long>(unsent_), static_cast<unsigned long long>(unanswered_));
    if (watches_) {
      std::printf("\"disturbed\":%llu,\"processesSeen\":%s,", static_cast<unsigned long long>(disturbed_),
                  hiccups_.sees_processes() ? "true" : "false");
    }
    if (flood_.any()) std::printf("\"floodBytesPerSecond\":%.0f,", static_cast<double>(flooded_) / seconds);
  }

 private:
  static constexpr size_t kLongestBurst = 32;
  static constexpr uint64_t kGraceNanos = 1'000'000'000;
  static constexpr uint64_t kPatienceNanos = 2'000'000'000;

  // The bounds of what may be under way: without them a server that does not keep up would be remembered forever.
  static constexpr size_t kMostPerConnection = 10'000;
  static constexpr size_t kMostBytes = 64 << 20;

  struct Connection : Stream {
    uint64_t message = 0;          // where the answer that is being received began
    std::deque<uint64_t> moments;  // at which the messages that are under way were meant to leave
  };

  void send_next(uint64_t moment) {
    const size_t index = turns_[turn_];
    turn_ = turn_ + 1 == turns_.size() ? 0 : turn_ + 1;
    Connection& connection = connections_[index];
    if (connection.moments.size() == kMostPerConnection || (in_flight_ + 1) * script_.request_bytes > kMostBytes) {
      unsent_++;
      return;
    }
    const uint64_t time = now();
    if (watches_) sent_.emplace_back(moment, time);
    else lateness_.record(time - moment);
    if (in_flight_++ == 0) last_progress_ = time;
    connection.moments.push_back(moment);
    connection.queued += script_.request_bytes;
    if (!connection.blocked) send(index);
  }

  void send(size_t index) {
    if (!connections_.wire.send(connections_[index], index)) connections_.lost(index);
  }

  void receive(size_t index) {
    const Io io = connections_.wire.receive(connections_[index], index, [&](uint64_t time) { take(index, time); });
    if (io == Io::kEnded) connections_.lost(index);
  }

  void take(size_t index, uint64_t time) {
    Connection& connection = connections_[index];
    last_progress_ = time;
    while (connection.received >= connection.message + script_.response_bytes) {
      connection.message += script_.response_bytes;
      const uint64_t moment = connection.moments.front();
      connection.moments.pop_front();
      in_flight_--;
      completed_++;
      if (moment < window_begin_) continue;
      record(moment, time);
      answered_++;
    }
  }

  void give_up(uint64_t moment) {
    if (moment < window_begin_) return;
    record(moment, now());
    unanswered_++;
  }

  void record(uint64_t moment, uint64_t end) {
    if (watches_) taken_.emplace_back(moment, end);
    else latencies_.record(end - moment);
  }

  /** Receives what is there, and gives the flood one step; waits until `until` if there is nothing and nothing has been sent either. */
  void turn(bool sent, uint64_t time, uint64_t until) {
    const auto events = connections_.poller.poll();
    for (const epoll_event& event : events) {
      const size_t index = event.data.u64;
      if (connections_[index].blocked && (event.events & EPOLLOUT)) send(index);
      // EPOLLERR and EPOLLHUP come unasked; the read then says what has happened.
      if (event.events & ~static_cast<uint32_t>(EPOLLOUT)) receive(index);
    }
    const bool flooded = flood_.any() && flood_.step();
    if (sent || flooded || !events.empty()) return;
    const uint64_t limit = in_flight_ > 0 ? std::min(until, last_progress_ + kStallNanos + 1) : until;
    if (spin_) spare_.add(now() - time);
    else Poller::sleep({&connections_.poller, &flood_.poller()}, limit);
  }

  const bool spin_;
  const double rate_;
  const std::vector<int> watched_cores_;
  const pid_t server_;
  const size_t expected_;  // messages in the window
  const Script& script_;
  Connections<Connection> connections_;
  Flood flood_;
  std::vector<size_t> turns_;  // the open connections
  size_t turn_ = 0;
  Histogram latencies_;  // of the window's messages
  Histogram lateness_;   // of the generator: from the moment at which a message was meant to leave until it did
  Hiccups hiccups_;
  bool watches_ = false;
  // Of the window's messages, while cores are watched: when each was meant to leave, and when it did, and when its answer had come.
  std::vector<std::pair<uint64_t, uint64_t>> sent_;
  std::vector<std::pair<uint64_t, uint64_t>> taken_;
  uint64_t disturbed_ = 0;
  SpareTime spare_;
  uint64_t window_begin_ = UINT64_MAX;  // the moments of the warm-up are before it
  uint64_t in_flight_ = 0;
  uint64_t answered_ = 0;             // of the window's messages
  uint64_t unanswered_ = 0;
  uint64_t unsent_ = 0;
  uint64_t completed_ = 0;            // since the window began, whenever they left
  uint64_t completed_in_window_ = 0;
  uint64_t flooded_ = 0;
  uint64_t last_progress_ = 0;
};
