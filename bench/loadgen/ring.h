// io_uring, by which the closed loop sends and receives on many connections with one system call.
//
// Why it exists: with a recv(2) and a send(2) per message the generator does what the fastest servers do, and is the limit itself. Where
// a system call costs a microsecond (page table isolation, under a hypervisor) the calls are a good part of a small message. Measured there
// against raw-epoll, 64 bytes: CPU of the generator per round trip fell from 8.8 to 6.5 us with 64 connections, from 12.7 to 10.2 with
// 1,000; with a server that was busy for 98 % of the time it was so itself for 100 % before, and for 57 to 85 % since.
//
// Every connection has one receive that stays armed (multishot: the kernel takes a buffer of ours for whatever comes, and the receive goes
// on), and at most one send under way. What is kept true: a send completes when all its bytes are taken, or with an error, so that no byte
// overtakes another; the bytes of a send stay where they are until then. Deliberately absent: connecting, closing, and waiting for anything
// but these two, which epoll does as well.
//
// All this is of Linux 6.1. Older kernels refuse the flags of the ring, sandboxes the call (seccomp, io_uring_disabled): `open` then
// returns nothing, and the generator stays with epoll.
#pragma once

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "failure.h"

class Ring {
 public:
  /** A ring for connections that are known by their place in `descriptors`; null if the kernel has none for us. */
  static std::unique_ptr<Ring> open(std::span<const int> descriptors) {
    std::unique_ptr<Ring> ring(new Ring);
    return ring->set_up() && ring->own(descriptors) ? std::move(ring) : nullptr;
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /** The kernel lets go of the descriptors soon after, not at once: until then they are open, whoever closes them. */
  ~Ring() {
    if (fd_ >= 0) close(fd_);
  }

  /** Receives from now on, until the connection ends. */
  void receive(size_t place) {
    io_uring_sqe& entry = next(IORING_OP_RECV, place, kReceive);
    entry.flags |= IOSQE_BUFFER_SELECT;
    entry.ioprio = kMultishot;
  }

  /** Sends all of it; only one at a time on a connection. */
  void send(size_t place, const char* bytes, size_t size) {
    io_uring_sqe& entry = next(IORING_OP_SEND, place, kSend);
    entry.addr = reinterpret_cast<uint64_t>(bytes);
    entry.len = static_cast<uint32_t>(size);
    entry.msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
  }

  /** Has done what was asked for. Sends are complete then, unless the kernel has no room; nothing is received. */
  void submit() {
    if (submitted_ != prepared_) enter(0, 0, nullptr, 0);
  }

  /** The same, and receives what is there. */
  void poll() { enter(0, IORING_ENTER_GETEVENTS, nullptr, 0); }

  /** The same, but sleeps until something is complete, or so many nanoseconds. */
  void wait(uint64_t nanos) {
    const __kernel_timespec limit{static_cast<int64_t>(nanos / 1'000'000'000), static_cast<long long>(nanos % 1'000'000'000)};
    const io_uring_getevents_arg argument{0, 0, 0, reinterpret_cast<uint64_t>(&limit)};
    enter(1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
  }

  /**
   * Calls received(place, bytes, result) and sent(place, result) for all that is complete; a result is a number of bytes or a negative
   * error, as those of the system calls would be. The bytes are there until the call returns. What they submit() is included, so they must
   * not poll(): a fast server would have something new each time, and this would never end. Returns how much was received, in pieces.
   */
  template <class Received, class Sent>
  size_t complete(Received received, Sent sent) {
    size_t pieces = 0;
    while (completed_ != std::atomic_ref(*completions_tail_).load(std::memory_order_acquire)) {
      const io_uring_cqe completion = completions_[completed_++ & completions_mask_];
      std::atomic_ref(*completions_head_).store(completed_, std::memory_order_release);
      const size_t place = completion.user_data >> 1;
      if ((completion.user_data & 1) == kSend) {
        sent(place, completion.res);
        continue;
      }
      // Out of buffers, or of room for completions: it has to be armed again.
      const bool ended = (completion.flags & IORING_CQE_F_MORE) == 0;
      if (ended && (completion.res > 0 || completion.res == -ENOBUFS)) receive(place);
      if (completion.res == -ENOBUFS) continue;
      const auto buffer = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
      received(place, bytes_of(buffer), completion.res);
      if (completion.flags & IORING_CQE_F_BUFFER) offer(buffer);
      pieces++;
    }
    return pieces;
  }

 private:
  static constexpr uint64_t kReceive = 0;
  static constexpr uint64_t kSend = 1;

  static constexpr uint32_t kSubmissions = 128;
  static constexpr uint32_t kCompletions = 1024;
  static constexpr uint16_t kBuffers = 256;
  // Not a power of two: the small messages of all buffers would share a few places of the nearest cache.
  static constexpr size_t kBufferBytes = 4096 + 64;

  // What headers before Linux 6.1 lack.
  static constexpr uint32_t kSubmitAll = 1u << 7;
  static constexpr uint32_t kSingleIssuer = 1u << 12;
  static constexpr uint32_t kDeferTaskrun = 1u << 13;
  static constexpr uint16_t kMultishot = 1u << 1;
  static constexpr unsigned kRegisterBuffers = 22;
  struct BufferRegistration {
    uint64_t address;
    uint32_t entries;
    uint16_t group, flags;
    uint64_t reserved[3];
  };
  /** The kernel reads the tail of the ring of buffers in `tail` of the first. */
  struct BufferEntry {
    uint64_t address;
    uint32_t size;
    uint16_t number, tail;
  };

  class Memory {
   public:
    Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() {
      if (begin_ != nullptr) munmap(begin_, size_);
    }
    bool map(size_t size, int flags, int fd, off_t offset) {
      void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, offset);
      if (memory == MAP_FAILED) return false;
      begin_ = static_cast<char*>(memory);
      size_ = size;
      return true;
    }
    template <class T>
    T* at(size_t offset) const { return reinterpret_cast<T*>(begin_ + offset); }

   private:
    char* begin_ = nullptr;
    size_t size_ = 0;
  };

  Ring() = default;

  bool set_up() {
    io_uring_params parameters{};
    // Only this thread uses it, and what arrives is handled when this thread asks, not whenever the kernel interrupts it.
    parameters.flags = kSingleIssuer | kDeferTaskrun | kSubmitAll | IORING_SETUP_CQSIZE;
    parameters.cq_entries = kCompletions;
    fd_ = static_cast<int>(syscall(SYS_io_uring_setup, kSubmissions, &parameters));
    if (fd_ < 0) return false;
    const io_sqring_offsets& submissions = parameters.sq_off;
    const io_cqring_offsets& completions = parameters.cq_off;
    const size_t size = std::max(submissions.array + kSubmissions * sizeof(uint32_t),
                                 completions.cqes + parameters.cq_entries * sizeof(io_uring_cqe));
    if (!queues_.map(size, MAP_SHARED | MAP_POPULATE, fd_, IORING_OFF_SQ_RING)) return false;
    if (!entries_.map(kSubmissions * sizeof(io_uring_sqe), MAP_SHARED | MAP_POPULATE, fd_, IORING_OFF_SQES)) return false;
    submissions_tail_ = queues_.at<uint32_t>(submissions.tail);
    for (uint32_t i = 0; i < kSubmissions; i++) queues_.at<uint32_t>(submissions.array)[i] = i;
    completions_head_ = queues_.at<uint32_t>(completions.head);
    completions_tail_ = queues_.at<uint32_t>(completions.tail);
    completions_mask_ = parameters.cq_entries - 1;
    completions_ = queues_.at<io_uring_cqe>(completions.cqes);
    return true;
  }

  /** Gives the kernel the descriptors, which it need not look up then, and the buffers. */
  bool own(std::span<const int> descriptors) {
    constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;
    if (!buffers_.map(kBuffers * kBufferBytes, kPrivate, -1, 0)) return false;
    if (!offers_.map(kBuffers * sizeof(BufferEntry), kPrivate, -1, 0)) return false;
    const BufferRegistration registration{reinterpret_cast<uint64_t>(offers_.at<char>(0)), kBuffers, 0, 0, {}};
    if (syscall(SYS_io_uring_register, fd_, kRegisterBuffers, &registration, 1) < 0) return false;
    for (uint16_t i = 0; i < kBuffers; i++) offer(i);
    return syscall(SYS_io_uring_register, fd_, IORING_REGISTER_FILES, descriptors.data(), descriptors.size()) >= 0;
  }

  io_uring_sqe& next(uint8_t operation, size_t place, uint64_t kind) {
    while (prepared_ - submitted_ == kSubmissions) submit();
    io_uring_sqe& entry = entries_.at<io_uring_sqe>(0)[prepared_++ % kSubmissions];
    entry = {};
    entry.opcode = operation;
    entry.flags = IOSQE_FIXED_FILE;
    entry.fd = static_cast<int>(place);
    entry.user_data = place << 1 | kind;
    return entry;
  }

  void enter(unsigned wanted, unsigned flags, const void* argument, size_t size) {
    std::atomic_ref(*submissions_tail_).store(prepared_, std::memory_order_release);
    const long taken = syscall(SYS_io_uring_enter, fd_, prepared_ - submitted_, wanted, flags, argument, size);
    if (taken > 0) submitted_ += static_cast<uint32_t>(taken);
    // EAGAIN and EBUSY: the kernel is short of memory, or of room for completions. The next call may find it better off.
    if (taken < 0 && errno != ETIME && errno != EINTR && errno != EAGAIN && errno != EBUSY) {
      fail(kSystem, "io_uring_enter: %s", std::strerror(errno));
    }
  }

  const char* bytes_of(uint16_t buffer) const { return buffers_.at<char>(buffer * kBufferBytes); }

  /** Lets the kernel receive into a buffer (again). */
  void offer(uint16_t buffer) {
    BufferEntry* const offers = offers_.at<BufferEntry>(0);
    BufferEntry& entry = offers[offered_ % kBuffers];
    entry.address = reinterpret_cast<uint64_t>(bytes_of(buffer));
    entry.size = kBufferBytes;
    entry.number = buffer;
    std::atomic_ref(offers->tail).store(++offered_, std::memory_order_release);
  }

  int fd_ = -1;
  Memory queues_;   // of submissions and completions, shared with the kernel
  Memory entries_;  // of the submissions
  Memory offers_;   // the ring of buffers that are free
  Memory buffers_;
  uint32_t* submissions_tail_ = nullptr;
  uint32_t* completions_head_ = nullptr;
  uint32_t* completions_tail_ = nullptr;
  uint32_t completions_mask_ = 0;
  const io_uring_cqe* completions_ = nullptr;
  uint32_t prepared_ = 0;  // positions in the queues: they only grow
  uint32_t submitted_ = 0;
  uint32_t completed_ = 0;
  uint16_t offered_ = 0;
};
