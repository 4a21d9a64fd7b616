// What the generator says on stdout: one JSON object a line, each with an `event`.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>

#include "clock.h"
#include "histogram.h"

inline void say(const char* event) {
  std::printf("{\"event\":\"%s\"}\n", event);
  std::fflush(stdout);
}

inline std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) >= ' ') result += c;
  }
  return result + '"';
}

inline double share(uint64_t part, uint64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

/** The part of the result that every shape has. `busy` is the generator's share of work (SpareTime). */
inline void say_window(const Moment& begin, const Moment& end, double busy, uint64_t round_trips) {
  const uint64_t elapsed = end.wall - begin.wall;
  const uint64_t server_cpu = end.server_cpu - begin.server_cpu;
  std::printf("{\"event\":\"result\",\"roundTrips\":%llu,\"seconds\":%.9f,\"roundTripsPerSecond\":%.1f,",
              static_cast<unsigned long long>(round_trips), static_cast<double>(elapsed) / 1e9,
              static_cast<double>(round_trips) * 1e9 / static_cast<double>(elapsed));
  std::printf("\"serverCpuSeconds\":%.9f,\"serverBusy\":%.4f,\"generatorBusy\":%.4f,", static_cast<double>(server_cpu) / 1e9,
              share(server_cpu, elapsed), busy);
}

/** The end of the result. */
inline void say_latencies(const Histogram& latencies) {
  const auto micros = [&](double quantile) { return static_cast<double>(latencies.at(quantile)) / 1e3; };
  std::printf("\"latencyMicros\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f},", micros(0.5), micros(0.9),
              micros(0.99), micros(0.999), static_cast<double>(latencies.max()) / 1e3);
  std::printf("\"latencyCounts\":[");
  const char* comma = "";
  latencies.each([&](uint64_t nanos, uint64_t count) {
    std::printf("%s[%llu,%llu]", comma, static_cast<unsigned long long>(nanos), static_cast<unsigned long long>(count));
    comma = ",";
  });
  std::printf("]}\n");
}
