// The load generator: connects, sends, verifies, measures, and says when. Written in C++ and given a core of its own,
// because a client that is slower than the server would measure the client.
//
// stdout carries one JSON object a line, each with an `event`:
//   connected   every connection has been tried and has had its first echo
//   begin, end  the edges of the measured window; the server's CPU clock is read here, by this process, at these moments
//   result      the figures
// With --idle, instead of a window: `baseline` after the first few connections and `idle` after all of them. Each waits for
// a line (or the end) of stdin, so that the runner can look at the server while it has nothing to do.
//
// It always ends by itself: every wait has a deadline, and every failure is one line on stderr and one of the exit codes
// of failure.h.

#include <poll.h>
#include <sys/resource.h>

#include "clients.h"

namespace {

void say(const char* event) {
  std::printf("{\"event\":\"%s\"}\n", event);
  std::fflush(stdout);
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (static_cast<unsigned char>(c) >= ' ') result += c;
  }
  return result + '"';
}

void say_connected(const Clients& clients) {
  std::printf("{\"event\":\"connected\",\"established\":%zu,\"connectionErrors\":%zu,\"firstConnectionError\":%s}\n",
              clients.established(), clients.failures(),
              clients.failures() > 0 ? quoted(clients.first_failure()).c_str() : "null");
  std::fflush(stdout);
  if (clients.established() == 0) fail(kNotConnected, "no connection was made: %s", clients.first_failure().c_str());
}

double share(uint64_t part, uint64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

void say_result(const Moment& begin, const Moment& end, uint64_t spun, const Histogram& latencies) {
  const uint64_t elapsed = end.wall - begin.wall;
  const uint64_t server_cpu = end.server_cpu - begin.server_cpu;
  // What a polling generator has left over is the time that it polled in vain.
  const uint64_t own_work = spun > 0 ? elapsed - std::min(spun, elapsed) : end.own_cpu - begin.own_cpu;
  const auto micros = [&](double quantile) { return static_cast<double>(latencies.at(quantile)) / 1e3; };
  std::printf("{\"event\":\"result\",\"roundTrips\":%llu,\"seconds\":%.9f,\"roundTripsPerSecond\":%.1f,",
              static_cast<unsigned long long>(latencies.total()), static_cast<double>(elapsed) / 1e9,
              static_cast<double>(latencies.total()) * 1e9 / static_cast<double>(elapsed));
  std::printf("\"serverCpuSeconds\":%.9f,\"serverBusy\":%.4f,\"generatorBusy\":%.4f,", static_cast<double>(server_cpu) / 1e9,
              share(server_cpu, elapsed), share(own_work, elapsed));
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

void measure(Clients& clients, const Options& options) {
  clients.open_up_to(options.connections);
  say_connected(clients);
  clients.start();
  clients.drive(options.warmup_seconds);
  clients.forget_warmup();
  say("begin");
  const Moment begin = Moment::of(options.server_pid);
  clients.drive(options.seconds);
  const Moment end = Moment::of(options.server_pid);
  const uint64_t spun = clients.spun();
  const Histogram latencies = clients.latencies();
  say("end");
  clients.drain();
  clients.close_all();
  say_result(begin, end, spun, latencies);
}

/** Waits for the runner's line, while watching that the server closes nothing. */
void await_line(Clients& clients) {
  const uint64_t deadline = now() + 120'000'000'000u;
  for (;;) {
    pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {clients.fd(), POLLIN, 0}};
    if (now() > deadline) fail(kSystem, "nobody asked for the end of the idle phase within two minutes");
    if (poll(watched, 2, 1000) < 0 && errno != EINTR) fail(kSystem, "poll: %s", std::strerror(errno));
    if (watched[1].revents != 0) clients.poll();
    if (watched[0].revents == 0) continue;
    char byte = '\n';
    if (read(STDIN_FILENO, &byte, 1) <= 0 || byte == '\n') return;
  }
}

void stay_idle(Clients& clients, const Options& options) {
  clients.open_up_to(options.baseline_connections);
  say("baseline");
  await_line(clients);
  clients.open_up_to(options.connections);
  say_connected(clients);
  say("idle");
  const Moment begin = Moment::of(options.server_pid);
  await_line(clients);
  const Moment end = Moment::of(options.server_pid);
  clients.close_all();
  say_result(begin, end, 0, Histogram());
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  Clients clients(options);
  if (options.idle) stay_idle(clients, options);
  else measure(clients, options);
  return 0;
}
