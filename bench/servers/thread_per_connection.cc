// The baseline: a thread per connection, blocking read(2) and write(2). Made as good as such a server can be: detached
// threads, small stacks that hold the buffer, no lock and no allocation per echo.
//
// When no further thread can be created that one connection is closed and counted, and the others are served on.

#include <poll.h>
#include <pthread.h>

#include <csignal>
#include <cstdint>

#include "listener.h"

namespace {

constexpr size_t kBufferBytes = 16 * 1024;
constexpr size_t kStackBytes = 64 * 1024;  // Below it lies a guard page: an overflow is a fault, not a corruption.

volatile std::sig_atomic_t stopping = 0;

void* serve(void* argument) {
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  char buffer[kBufferBytes];
  for (;;) {
    const ssize_t received = read(fd, buffer, sizeof buffer);
    if (received <= 0) break;
    ssize_t sent = 0;
    while (sent < received) {
      const ssize_t written = write(fd, buffer + sent, static_cast<size_t>(received - sent));
      if (written < 0) break;
      sent += written;
    }
    if (sent < received) break;
  }
  close(fd);
  return nullptr;
}

class ThreadFailures {
 public:
  void add(int error) {
    count_++;
    error_ = error;
    if (count_ == 1) report("so far");
  }
  ~ThreadFailures() {
    if (count_ > 0) report("in all");
  }

 private:
  void report(const char* when) const {
    std::fprintf(stderr, "pthread_create failed for %ld connection%s %s: %s\n", count_, count_ == 1 ? "" : "s", when,
                 std::strerror(error_));
  }

  long count_ = 0;
  int error_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const Address address = parse_address(argc, argv);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);

  // The signals are blocked everywhere, threads inherit that, and delivered only inside ppoll: a signal can neither hit a
  // connection's read nor slip in between the test of `stopping` and the wait.
  struct sigaction action{};
  action.sa_handler = [](int) { stopping = 1; };
  sigset_t terminating;
  sigset_t original;
  sigemptyset(&terminating);
  for (const int signal : {SIGTERM, SIGINT}) {
    sigaction(signal, &action, nullptr);
    sigaddset(&terminating, signal);
  }
  pthread_sigmask(SIG_BLOCK, &terminating, &original);

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);

  Listener listener(address, SOCK_NONBLOCK);
  ThreadFailures failures;
  pollfd waiting{listener.fd(), POLLIN, 0};
  while (!stopping) {
    if (ppoll(&waiting, 1, nullptr, &original) < 0) continue;
    const int fd = listener.accept(0);
    if (fd < 0) continue;
    pthread_t thread;
    const int error = pthread_create(&thread, &attributes, serve, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
    if (error != 0) {
      failures.add(error);
      close(fd);
    }
  }
  return 0;
}
