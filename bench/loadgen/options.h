// The generator's command line. Wrong usage is one line and exit code 2.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/types.h>
#include <vector>

struct Options {
  std::string host = "127.0.0.1";
  int port = 0;
  size_t connections = 1;
  size_t message_bytes = 64;
  size_t in_flight = 1;
  std::string request;   // what a message is, where the server does not echo ...
  std::string response;  // ... and what must come back for it
  double warmup_seconds = 0.5;
  double seconds = 2;
  bool spin = false;
  bool no_ring = false;
  bool idle = false;
  size_t baseline_connections = 64;
  double rate = 0;  // messages per second of the open loop
  bool churn = false;
  size_t idle_connections = 0;
  size_t flooders = 0;
  std::vector<int> watched_cores;  // for hiccups
  pid_t server_pid = 0;
};

[[noreturn]] inline void usage(const std::string& problem) {
  std::fprintf(stderr,
               "loadgen: %s; usage: loadgen --port PORT [--host ADDRESS] [--connections N] [--size BYTES] [--in-flight K] "
               "[--warmup SECONDS] [--seconds SECONDS] [--spin] [--no-ring] [--server-pid PID] "
               "[--idle [--baseline N] | --rate R [--flooders N] | --churn] [--watch-core C]... [--idle-connections N] [--request TEXT --response TEXT]\n",
               problem.c_str());
  std::exit(2);
}

inline Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string name = argv[i];
    bool* const flag = name == "--idle" ? &options.idle
                       : name == "--churn" ? &options.churn
                       : name == "--spin" ? &options.spin
                       : name == "--no-ring" ? &options.no_ring : nullptr;
    if (flag != nullptr) {
      *flag = true;
      continue;
    }
    if (i + 1 == argc) usage("'" + name + "' is unknown or lacks its value");
    const char* text = argv[++i];
    const auto number = [&](double low, double high) {
      char* end = nullptr;
      const double value = std::strtod(text, &end);
      if (end == text || *end != '\0' || !(value >= low && value <= high)) {
        char range[96];
        std::snprintf(range, sizeof range, " must be a number from %.10g to %.10g, not '", low, high);
        usage(name + range + text + "'");
      }
      return value;
    };
    if (name == "--host") options.host = text;
    else if (name == "--request") options.request = text;
    else if (name == "--response") options.response = text;
    else if (name == "--port") options.port = static_cast<int>(number(1, 65535));
    else if (name == "--connections") options.connections = static_cast<size_t>(number(1, 1'000'000));
    else if (name == "--size") options.message_bytes = static_cast<size_t>(number(1, 64 << 20));
    else if (name == "--in-flight") options.in_flight = static_cast<size_t>(number(1, 4096));
    else if (name == "--warmup") options.warmup_seconds = number(0, 3600);
    else if (name == "--seconds") options.seconds = number(0.001, 3600);
    else if (name == "--baseline") options.baseline_connections = static_cast<size_t>(number(0, 1'000'000));
    else if (name == "--rate") options.rate = number(0.001, 10'000'000);
    else if (name == "--idle-connections") options.idle_connections = static_cast<size_t>(number(0, 1'000'000));
    else if (name == "--flooders") options.flooders = static_cast<size_t>(number(0, 10'000));
    else if (name == "--watch-core") options.watched_cores.push_back(static_cast<int>(number(0, 1023)));
    else if (name == "--server-pid") options.server_pid = static_cast<pid_t>(number(1, 1 << 30));
    else usage("unknown option '" + name + "'");
  }
  if (options.port == 0) usage("--port is required");
  if (options.request.empty() != options.response.empty()) usage("--request and --response go together");
  if (options.idle + options.churn + (options.rate > 0) > 1) usage("--idle, --rate and --churn exclude each other");
  if (options.idle && options.idle_connections > 0) usage("--idle-connections accompany another load than --idle");
  if (options.flooders > 0 && options.rate == 0) usage("--flooders disturb the messages of --rate, which is missing");
  if (!options.watched_cores.empty() && options.rate == 0) usage("--watch-core is for the messages of --rate, which is missing");
  if ((options.churn || options.rate > 0) && options.in_flight > 1) {
    usage("--in-flight is for the closed loop: leave it out with --rate and --churn");
  }
  if (!options.request.empty()) options.message_bytes = options.request.size();
  if (options.baseline_connections >= options.connections) options.baseline_connections = 0;
  return options;
}
