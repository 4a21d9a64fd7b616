// The load generator: connects, sends, verifies, measures, and says when. Written in C++ and given a core of its own,
// because a client that is slower than the server would measure the client.
//
// The load has one of several shapes, each with a file of its own: a closed loop, unless --rate (open_loop.h, with flood.h) or
// --churn (churn.h) is given. --idle-connections are opened before any of them and stay silent.
//
// stdout carries one JSON object a line, each with an `event`:
//   connected   every connection has been tried and has had its first echo
//   begin, end  the edges of the measured window; the server's CPU clock is read here, by this process, at these moments
//   result      the figures. generatorBusy is the share of its time in which the generator did something; the others are
//               named for what they count, and what a shape adds is written in its file
// With --idle, instead of a window: `baseline` after the first few connections and `idle` after all of them. Each waits for
// a line (or the end) of stdin, so that the runner can look at the server while it has nothing to do.
//
// It always ends by itself: every wait has a deadline, and every failure is one line on stderr and one of the exit codes
// of failure.h.

#include <poll.h>
#include <sys/resource.h>

#include "churn.h"
#include "closed_loop.h"
#include "connections.h"
#include "open_loop.h"
#include "report.h"

namespace {

using Idle = Connections<Stream>;

template <class Shape>
void say_connected(const Shape& shape) {
  std::printf("{\"event\":\"connected\",\"established\":%zu,\"connectionErrors\":%zu,\"firstConnectionError\":%s}\n",
              shape.established(), shape.failures(), shape.failures() > 0 ? quoted(shape.first_failure()).c_str() : "null");
  std::fflush(stdout);
  if (shape.established() == 0) fail(kNotConnected, "no connection was made: %s", shape.first_failure().c_str());
}

void say_idle(const Idle& idle) {
  if (idle.size() == 0) return;
  std::printf("\"idleEstablished\":%zu,\"firstIdleConnectionError\":%s,", idle.established(),
              idle.failures() > 0 ? quoted(idle.first_failure()).c_str() : "null");
}

/** How busy a generator is that sleeps when it has nothing to do. */
double cpu_share(const Moment& begin, const Moment& end) { return share(end.own_cpu - begin.own_cpu, end.wall - begin.wall); }

template <class Shape>
void measure(Shape& shape, Idle& idle, const Options& options) {
  idle.open_up_to(idle.size());
  shape.open();
  say_connected(shape);
  shape.start();
  shape.drive(options.warmup_seconds);
  shape.begin_window();
  say("begin");
  const Moment begin = Moment::of(options.server_pid);
  shape.drive(options.seconds);
  const Moment end = Moment::of(options.server_pid);
  shape.end_window();
  const double busy = options.spin ? 1 - std::min(1.0, share(shape.spare().total(), end.own_cpu - begin.own_cpu)) : cpu_share(begin, end);
  say("end");
  shape.drain();
  idle.stay_silent();
  shape.close_all();
  idle.close_all();
  say_window(begin, end, busy, shape.round_trips());
  shape.say_figures(static_cast<double>(end.wall - begin.wall) / 1e9);
  say_idle(idle);
  say_latencies(shape.latencies());
}

/** Waits for the runner's line, while watching that the server closes nothing. */
void await_line(Idle& idle) {
  const uint64_t deadline = now() + 120'000'000'000u;
  for (;;) {
    pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {idle.poller.fd(), POLLIN, 0}};
    if (now() > deadline) fail(kSystem, "nobody asked for the end of the idle phase within two minutes");
    if (poll(watched, 2, 1000) < 0 && errno != EINTR) fail(kSystem, "poll: %s", std::strerror(errno));
    if (watched[1].revents != 0) idle.stay_silent();
    if (watched[0].revents == 0) continue;
    char byte = '\n';
    if (read(STDIN_FILENO, &byte, 1) <= 0 || byte == '\n') return;
  }
}

void stay_idle(Idle& idle, const Options& options) {
  idle.open_up_to(options.baseline_connections);
  say("baseline");
  await_line(idle);
  idle.open_up_to(options.connections);
  say_connected(idle);
  say("idle");
  const Moment begin = Moment::of(options.server_pid);
  await_line(idle);
  const Moment end = Moment::of(options.server_pid);
  idle.close_all();
  say_window(begin, end, cpu_share(begin, end), 0);
  say_latencies(Histogram());
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  const Target target(options);
  const Script script(options);
  const size_t silent = options.idle ? options.connections : options.idle_connections;
  Idle idle(target, script, options.spin, options.idle ? "connection" : "idle connection", 0, silent);
  if (options.idle) {
    stay_idle(idle, options);
  } else if (options.rate > 0) {
    OpenLoop shape(options, target, script);
    measure(shape, idle, options);
  } else if (options.churn) {
    Churn shape(options, target, script);
    measure(shape, idle, options);
  } else {
    ClosedLoop shape(options, target, script);
    measure(shape, idle, options);
  }
  return 0;
}
