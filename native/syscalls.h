// One way out of native: a system call's outcome is its value, or the negative errno. EAGAIN and EINTR are outcomes, never exceptions.
#pragma once

#include <cerrno>
#include <cstdint>
#include <ctime>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace onewait {

/** Turns the C convention (-1 and errno) into the kernel's own: a value, or -errno. */
inline int64_t outcome(int64_t returned) { return returned < 0 ? -static_cast<int64_t>(errno) : returned; }

/** CLOCK_MONOTONIC in nanoseconds (clock_gettime(2)): never jumps with the wall clock. */
inline uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

/** The processor's counter, in ticks of a constant length. Reading it touches no memory, as clock_gettime(2) does. */
inline uint64_t ticks() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  uint64_t count;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
  return count;
#endif
}

/** The times of a batch of calls for the price of two readings of the clock: the counter is read after each, the clock before and after all. */
class BatchClock {
 public:
  void begin() {
    from_ns_ = to_ns_ = monotonic_ns();
    from_ticks_ = ticks();
  }
  void end() {
    to_ns_ = monotonic_ns();
    to_ticks_ = ticks();
  }
  /** When the counter was at `at`, on CLOCK_MONOTONIC. Never outside the batch, whatever counter a change of cores brought. */
  uint64_t time_of(uint64_t at) const {
    if (at <= from_ticks_ || to_ticks_ <= from_ticks_) return from_ns_;
    if (at >= to_ticks_) return to_ns_;
    const double share = static_cast<double>(at - from_ticks_) / static_cast<double>(to_ticks_ - from_ticks_);
    return from_ns_ + static_cast<uint64_t>(share * static_cast<double>(to_ns_ - from_ns_));
  }

 private:
  uint64_t from_ns_ = 0;
  uint64_t to_ns_ = 0;
  uint64_t from_ticks_ = 0;
  uint64_t to_ticks_ = 0;
};

/**
 * The kernel's call as it is, for the two that make an echo: a value, or -errno. The C library's recv and send are cancellation points, which
 * in a program with threads (Node always is one) cost two atomic operations each; and its syscall(2) is a function on another page, which
 * the kernel has just put out of the TLB where it isolates its page tables. See syscall(2), "Architecture calling conventions".
 */
inline int64_t system_call(long number, int fd, const void* data, size_t length, int flags) {
#if defined(__x86_64__)
  int64_t result;
  register int64_t r10 __asm__("r10") = flags;
  register int64_t r8 __asm__("r8") = 0;
  register int64_t r9 __asm__("r9") = 0;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(static_cast<int64_t>(fd)), "S"(data), "d"(length), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register int64_t x8 __asm__("x8") = number;
  register int64_t x0 __asm__("x0") = fd;
  register int64_t x1 __asm__("x1") = reinterpret_cast<int64_t>(data);
  register int64_t x2 __asm__("x2") = static_cast<int64_t>(length);
  register int64_t x3 __asm__("x3") = flags;
  register int64_t x4 __asm__("x4") = 0;
  register int64_t x5 __asm__("x5") = 0;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "onewait is written for x64 and arm64"
#endif
}

// MSG_DONTWAIT: O_NONBLOCK is shared with whoever else has the socket, and libuv clears it for a child that gets it as its standard input or output.
/** recv(2). */
inline int64_t receive(int fd, void* data, size_t length) { return system_call(SYS_recvfrom, fd, data, length, MSG_DONTWAIT); }
/** send(2). MSG_NOSIGNAL: a peer that is gone is EPIPE, never a signal. */
inline int64_t transmit(int fd, const void* data, size_t length) { return system_call(SYS_sendto, fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL); }

inline timespec to_timespec(int64_t ns) { return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)}; }

/** An owned descriptor: closed once, and set to -1 before close so that no path can close the number again. */
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1) {
    const int old = fd_;
    fd_ = fd;
    if (old >= 0) ::close(old);  // Linux frees the number even when close reports EINTR: never retried (close(2)).
  }

 private:
  int fd_;
};

}  // namespace onewait
