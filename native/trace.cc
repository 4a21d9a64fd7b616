#include "trace.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace onewait {
namespace {

// Often enough that a person following the file sees it grow, rare enough that the writer costs nothing.
constexpr auto kDrainInterval = std::chrono::milliseconds(20);

bool write_all(int fd, const void* data, size_t length) {
  const char* at = static_cast<const char*>(data);
  while (length > 0) {
    const int64_t written = outcome(::write(fd, at, length));
    if (written == -EINTR) continue;
    if (written <= 0) return false;
    at += written;
    length -= static_cast<size_t>(written);
  }
  return true;
}

}  // namespace

std::unique_ptr<Trace> Trace::open(const char* path, size_t ring_records, int* error) {
  // O_NOFOLLOW: a link planted in a shared directory must not redirect the trace. O_NONBLOCK: opening a FIFO must not hang.
  Fd file(::open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (file.get() < 0) {
    *error = static_cast<int>(outcome(-1));
    return nullptr;
  }
  struct stat status;
  if (::fstat(file.get(), &status) < 0 || !S_ISREG(status.st_mode)) {
    *error = -EINVAL;
    return nullptr;
  }
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  std::unique_ptr<Trace> trace(new Trace(std::move(file), ring_records));
  FileHeader header{};
  std::memcpy(header.magic, "1WAITTRC", 8);
  header.version = kVersion;
  header.record_size = sizeof(Record);
  header.wall_clock_ns = static_cast<uint64_t>(wall.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(wall.tv_nsec);
  header.monotonic_ns = trace->origin_;
  header.pid = static_cast<uint32_t>(::getpid());
  header.thread = static_cast<uint32_t>(::syscall(SYS_gettid));
  if (::fchmod(trace->file_.get(), 0600) < 0 || ::ftruncate(trace->file_.get(), 0) < 0 ||
      !write_all(trace->file_.get(), &header, sizeof header)) {
    *error = static_cast<int>(outcome(-1));
    return nullptr;
  }
  trace->writer_ = std::thread([raw = trace.get()] { raw->write_loop(); });
  return trace;
}

Trace::Trace(Fd file, size_t ring_records) : file_(std::move(file)), origin_(monotonic_ns()) {
  size_t size = 1024;
  while (size < ring_records) size *= 2;
  ring_.resize(size);
}

Trace::~Trace() {
  if (!writer_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  writer_.join();
  // The ring is empty now: there is room to tell of what did not fit before.
  if (lost_pending_ > 0 && reserve(1)) drain();
}

void Trace::wait(uint64_t start, Syscall call, int64_t timeout_ns, int64_t result) {
  push({since_start(start), static_cast<uint8_t>(Kind::kWait), static_cast<uint8_t>(call), 0, -1, 0, 0, result, monotonic_ns() - start, timeout_ns});
}

void Trace::control(uint64_t start, int op, int fd, uint32_t generation, uint32_t mask, int64_t result) {
  push({since_start(start), static_cast<uint8_t>(Kind::kControl), static_cast<uint8_t>(op), 0, fd, generation, task_, result,
        monotonic_ns() - start, static_cast<int64_t>(mask)});
}

void Trace::ready(int fd, uint32_t generation, uint32_t events) {
  push({since_start(monotonic_ns()), static_cast<uint8_t>(Kind::kReady), 0, static_cast<uint16_t>(events), fd, generation, 0, 0, 0, 0});
}

void Trace::syscall(uint64_t start, Syscall call, int fd, uint32_t generation, int64_t asked, int64_t result, uint32_t task) {
  push({since_start(start), static_cast<uint8_t>(Kind::kSyscall), static_cast<uint8_t>(call), 0, fd, generation, task, result, monotonic_ns() - start,
        asked});
}

void Trace::host(bool ready) {
  push({since_start(monotonic_ns()), static_cast<uint8_t>(Kind::kHost), 0, 0, -1, 0, 0, 0, 0, ready ? 1 : 0});
}

void Trace::event(Kind kind, uint8_t code, uint32_t task, int fd, uint32_t generation, uint32_t mask, int64_t arg) {
  if (kind == Kind::kResume) task_ = task;  // system calls that follow are its doing
  push({since_start(monotonic_ns()), static_cast<uint8_t>(kind), code, static_cast<uint16_t>(mask), fd, generation, task, 0, 0, arg});
}

void Trace::text(TextKind what, uint32_t task, int fd, uint32_t generation, std::string_view text) {
  text = text.substr(0, 480);
  const size_t slots = (text.size() + sizeof(Record) - 1) / sizeof(Record);
  if (!reserve(1 + slots)) return;
  const uint64_t head = head_.load(std::memory_order_relaxed);
  at(head) = {since_start(monotonic_ns()), static_cast<uint8_t>(Kind::kText), static_cast<uint8_t>(what), 0, fd, generation, task,
              static_cast<int64_t>(text.size()), 0, 0};
  for (size_t i = 0; i < slots; ++i) {
    const std::string_view part = text.substr(i * sizeof(Record), sizeof(Record));
    char bytes[sizeof(Record)] = {};
    std::memcpy(bytes, part.data(), part.size());
    std::memcpy(static_cast<void*>(&at(head + 1 + i)), bytes, sizeof bytes);
  }
  head_.store(head + 1 + slots, std::memory_order_release);
}

/** Room for `slots` records, after a kLost record if some are owed. Counts the record as lost when there is none. */
bool Trace::reserve(size_t slots) {
  const uint64_t head = head_.load(std::memory_order_relaxed);
  const size_t free = ring_.size() - static_cast<size_t>(head - tail_.load(std::memory_order_acquire));
  const size_t needed = slots + (lost_pending_ > 0 ? 1 : 0);
  if (free < needed || failed_.load(std::memory_order_relaxed)) {
    ++lost_pending_;
    lost_total_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  if (lost_pending_ > 0) {
    at(head) = {since_start(monotonic_ns()), static_cast<uint8_t>(Kind::kLost), 0, 0, -1, 0, 0, static_cast<int64_t>(lost_pending_), 0, 0};
    lost_pending_ = 0;
    head_.store(head + 1, std::memory_order_release);
  }
  return true;
}

void Trace::push(const Record& record) {
  if (!reserve(1)) return;
  const uint64_t head = head_.load(std::memory_order_relaxed);
  at(head) = record;
  head_.store(head + 1, std::memory_order_release);
}

void Trace::drain() {
  uint64_t tail = tail_.load(std::memory_order_relaxed);
  const uint64_t head = head_.load(std::memory_order_acquire);
  while (tail < head) {
    const size_t offset = static_cast<size_t>(tail & (ring_.size() - 1));
    const size_t run = std::min<size_t>(static_cast<size_t>(head - tail), ring_.size() - offset);
    if (!failed_ && !write_all(file_.get(), &ring_[offset], run * sizeof(Record))) {
      failed_ = true;  // A full disk costs the trace, never the server: from here on records are counted, not kept.
      lost_total_.fetch_add(head - tail, std::memory_order_relaxed);
    }
    tail += run;
    tail_.store(tail, std::memory_order_release);
  }
}

void Trace::write_loop() {
  // Signals belong to the program's own threads.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait_for(lock, kDrainInterval);
    lock.unlock();
    drain();
    lock.lock();
  }
  drain();
}

}  // namespace onewait
