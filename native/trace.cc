#include "trace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <new>
#include <sstream>

#include "thread.h"

namespace onewait {
namespace {

// Often enough that a person following the file sees it grow, rare enough that the writer costs nothing.
constexpr auto kDrainInterval = std::chrono::milliseconds(50);
constexpr char kMagic[] = "1WAITTRC";
constexpr size_t kMinRecords = 1024;

// Linux 6.14, and its headers. Pages leave the page cache once they are on the disk: a trace is gigabytes that nobody reads soon, and the memory
// would be taken from files that somebody does. It is cheaper too, where fresh pages are dear: a fifth of the time per byte in a virtual machine.
constexpr int kDontCache = 0x80;

/** Writes all of `parts` at `offset`. False when there is no room for it. */
bool write_all(int fd, iovec* parts, int count, off_t offset) {
  static_assert(sizeof(off_t) == 8);
  int flags = kDontCache;
  while (count > 0) {
    if (parts->iov_len == 0) {
      ++parts;
      --count;
      continue;
    }
    const int64_t written = outcome(::pwritev2(fd, parts, count, offset, flags));
    if (written == -EINTR) continue;
    if (flags != 0 && (written == -EOPNOTSUPP || written == -EINVAL || written == -ENOSYS)) {
      flags = 0;
      continue;
    }
    if (written <= 0) return false;
    offset += written;
    for (size_t left = static_cast<size_t>(written); left > 0;) {
      const size_t part = std::min(left, parts->iov_len);
      parts->iov_base = static_cast<char*>(parts->iov_base) + part;
      parts->iov_len -= part;
      left -= part;
      if (parts->iov_len == 0) {
        ++parts;
        --count;
      }
    }
  }
  return true;
}

/** Holds flock(2) on a file: threads of this process and other processes wait alike. */
class Lock {
 public:
  explicit Lock(int fd) : fd_(fd) {
    while (::flock(fd_, LOCK_EX) < 0 && errno == EINTR) {
    }
  }
  ~Lock() { ::flock(fd_, LOCK_UN); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int fd_;
};

/** When a process was started, in ticks since the boot: field 22 of proc_pid_stat(5). 0 when there is no such process. */
uint64_t start_of(uint32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = stat.rfind(')');  // the name may contain anything
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return std::strtoull(field.c_str(), nullptr, 10);
}

FileHeader new_header(uint64_t origin) {
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  const uint64_t since = monotonic_ns() - origin;
  FileHeader header{};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = Trace::kVersion;
  header.record_size = sizeof(Record);
  header.wall_clock_ns = static_cast<uint64_t>(wall.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(wall.tv_nsec) - since;
  header.monotonic_ns = origin;
  header.pid = static_cast<uint32_t>(::getpid());
  header.started = start_of(header.pid);
  return header;
}

}  // namespace

std::unique_ptr<Trace> Trace::open(const char* path, const TraceOptions& options, int* error) {
  std::unique_ptr<Trace> trace(new Trace(options));
  if (options.flight) return trace;
  *error = trace->begin_file(path, false);
  if (*error < 0) return nullptr;
  const auto write = [](void* self) -> void* {
    static_cast<Trace*>(self)->write_loop();
    return nullptr;
  };
  *error = start_thread(&trace->writer_, write, trace.get());
  if (*error < 0) return nullptr;
  trace->writes_ = true;
  return trace;
}

Trace::Trace(const TraceOptions& options)
    : origin_(monotonic_ns()),
      flight_(options.flight),
      thread_(options.thread),
      tid_(static_cast<uint32_t>(::syscall(SYS_gettid))),
      payload_bytes_(options.payload_bytes) {
  size_t capacity = kMinRecords;
  while (capacity < options.ring_records) capacity *= 2;
  // Cache lines of the head must be lines; the records need not be touched before they are written.
  const size_t bytes = sizeof(TraceHead) + capacity * sizeof(Record);
  memory_ = {static_cast<uint8_t*>(::operator new[](bytes, std::align_val_t(64))), [](uint8_t* memory) { ::operator delete[](memory, std::align_val_t(64)); }};
  head_ = new (memory_.get()) TraceHead{};
  head_->capacity = static_cast<uint32_t>(capacity);
  head_->limit = head_->capacity;
  ring_ = reinterpret_cast<Record*>(memory_.get() + sizeof(TraceHead));
}

Trace::~Trace() { finish(); }

uint64_t Trace::finish() {
  if (!writes_) return lost_total_;
  publish();
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  pthread_join(writer_, nullptr);
  writes_ = false;
  // The ring is empty now: there is room to tell of what did not fit before.
  if (head_->lost > 0 && !failed_ && room()) {
    publish();
    drain();
  }
  end_file(!failed_);
  return lost_total_ + unwritten_;
}

/** Counts time from another moment on, that of the file. */
void Trace::rebase(uint64_t origin) {
  const double shift = static_cast<double>(static_cast<int64_t>(origin_ - origin));
  for (uint32_t i = head_->taken.load(std::memory_order_relaxed); i != head_->written; ++i) ring_[i & (head_->capacity - 1)].t += shift;
  head_->clock += shift;
  waited_ = 0;
  origin_ = origin;
}

/** Opens the file, and begins it or joins those who are at it. `keep_others`: what another process of these days has left there stays. */
int Trace::begin_file(const char* path, bool keep_others) {
  // O_NOFOLLOW: a link planted in a shared directory must not redirect the trace. O_NONBLOCK: opening a FIFO must not hang.
  file_ = Fd(::open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (file_.get() < 0) return static_cast<int>(outcome(-1));
  struct stat status;
  if (::fstat(file_.get(), &status) < 0 || !S_ISREG(status.st_mode)) return -EINVAL;
  const Lock lock(file_.get());
  FileHeader found{};
  const bool is_trace = ::pread(file_.get(), &found, sizeof found, 0) == sizeof found && std::memcmp(found.magic, kMagic, sizeof found.magic) == 0 &&
                        found.version == kVersion;
  FileHeader header = new_header(origin_);
  const bool alive = is_trace && start_of(found.pid) == found.started;
  if (keep_others && is_trace && found.pid != header.pid && (alive || found.monotonic_ns > origin_)) return -EEXIST;
  if (alive && found.writers > 0) {
    if (found.pid != header.pid) return -EBUSY;
    header = found;
    rebase(found.monotonic_ns);
  } else if (::fchmod(file_.get(), 0600) < 0 || ::ftruncate(file_.get(), 0) < 0) {
    return static_cast<int>(outcome(-1));
  }
  ++header.writers;
  const int64_t written = outcome(::pwrite(file_.get(), &header, sizeof header, 0));
  return written == sizeof header ? 0 : written < 0 ? static_cast<int>(written) : -ENOSPC;
}

void Trace::end_file(bool is_over) {
  const Lock lock(file_.get());
  const off_t end = ::lseek(file_.get(), 0, SEEK_END);
  if (is_over && end >= 0) {
    Record over{now(), Kind::kThread, 0, 0, static_cast<int32_t>(thread_), 0, 0, 1, 0, static_cast<double>(tid_)};
    iovec part{&over, sizeof over};
    if (!write_all(file_.get(), &part, 1, end)) [[maybe_unused]] const int truncated = ::ftruncate(file_.get(), end);
  }
  FileHeader header{};
  if (::pread(file_.get(), &header, sizeof header, 0) != sizeof header || header.writers == 0) return;
  --header.writers;
  // What came after the disk was full is told nowhere else.
  const uint64_t missing = header.missing + unwritten_ + (failed_ ? head_->lost : 0);
  header.missing = static_cast<uint32_t>(std::min<uint64_t>(missing, UINT32_MAX));
  [[maybe_unused]] const ssize_t written = ::pwrite(file_.get(), &header, sizeof header, 0);
}

// --- the producer -------------------------------------------------------------------------------------------------------------

Record* Trace::claim() {
  if (head_->written == head_->limit && !room()) return nullptr;
  return &ring_[head_->written++ & (head_->capacity - 1)];
}

bool Trace::room() {
  TraceHead& head = *head_;
  if (flight_) head.taken.store(head.taken.load(std::memory_order_relaxed) + head.capacity / 16, std::memory_order_relaxed);
  head.limit = head.taken.load(std::memory_order_acquire) + head.capacity;
  const uint32_t free = head.limit - head.written;
  if (free < (head.lost > 0 ? 2u : 1u) || failed_.load(std::memory_order_relaxed)) {
    head.limit = head.written;  // ask again the next time
    ++head.lost;
    ++lost_total_;
    return false;
  }
  if (head.lost > 0) {
    ring_[head.written++ & (head.capacity - 1)] = {head.clock, Kind::kLost, 0, 0, -1, 0, 0, static_cast<double>(head.lost), 0, 0};
    head.lost = 0;
  }
  return true;
}

void Trace::wait(double start, Syscall call, int64_t timeout_ns, int64_t result) {
  const double end = now();
  if (waited_ > 0) head_->turn = std::max(head_->turn, start - waited_);
  waited_ = end;
  if (Record* record = claim()) {
    *record = {start,  Kind::kWait, static_cast<uint8_t>(call), 0, -1, 0, 0, static_cast<double>(result), end - start, static_cast<double>(timeout_ns)};
  }
  publish();
}

void Trace::control(double start, int op, int fd, uint32_t generation, uint32_t mask, int64_t result) {
  const double end = now();
  if (Record* record = claim()) {
    *record = {start, Kind::kControl, static_cast<uint8_t>(op), 0, fd, generation, head_->task, static_cast<double>(result), end - start, static_cast<double>(mask)};
  }
}

void Trace::ready(int fd, uint32_t generation, uint32_t events) {
  if (Record* record = claim()) *record = {last(), Kind::kReady, 0, static_cast<uint16_t>(events), fd, generation, 0, 0, 0, 0};
}

double Trace::syscall(double start, Syscall call, int fd, int64_t asked, int64_t result) {
  head_->clock = start;
  passed(monotonic_ns(), call, fd, 0, 0, asked, result, head_->task);
  return last();
}

void Trace::passed(uint64_t end, Syscall call, int fd, uint32_t generation, uint32_t events, int64_t asked, int64_t result, uint32_t task) {
  const double start = last();
  head_->clock = std::max(start, static_cast<double>(end) - static_cast<double>(origin_));
  if (Record* record = claim()) {
    *record = {start, Kind::kSyscall,           static_cast<uint8_t>(call), static_cast<uint16_t>(events), fd, generation,
               task,  static_cast<double>(result), head_->clock - start,     static_cast<double>(asked)};
  }
}

void Trace::host() {
  if (Record* record = claim()) *record = {last(), Kind::kHost, 0, 0, -1, 0, 0, 0, 0, 0};
}

void Trace::found(int fd, std::string_view name) {
  text(TextKind::kDescriptorName, 0, fd, name);
  if (Record* record = claim()) *record = {last(), Kind::kOpen, 3, 0, fd, 0, 0, 0, 0, 0};
}

void Trace::text(TextKind what, uint32_t task, int fd, std::string_view text) {
  text = text.substr(0, what == TextKind::kPayload ? payload_bytes_ : kMaxText);
  for (size_t at = 0; at == 0 || at < text.size(); at += Piece::kBytes) {
    const std::string_view part = text.substr(at, Piece::kBytes);
    const bool more = at + Piece::kBytes < text.size();
    Record* record = claim();
    if (record == nullptr) return;
    const auto mask = static_cast<uint16_t>(part.size() | (more ? Piece::kMore : 0) | (at > 0 ? Piece::kContinues : 0));
    *record = {last(), Kind::kText, static_cast<uint8_t>(what), mask, fd, 0, task, 0, 0, 0};
    std::memcpy(&record->result, part.data(), part.size());
  }
}

// --- the consumer -------------------------------------------------------------------------------------------------------------

/** Appends `count` records from `from` on, with whose they are before them. Returns how many are in the file, whole. */
uint32_t Trace::write_batch(uint32_t from, uint32_t count) {
  const Lock lock(file_.get());
  const off_t end = ::lseek(file_.get(), 0, SEEK_END);
  const uint32_t offset = from & (head_->capacity - 1);
  const uint32_t first = std::min(count, head_->capacity - offset);
  Record whose{ring_[offset].t, Kind::kThread, 0, 0, static_cast<int32_t>(thread_), 0, 0, 0, 0, static_cast<double>(tid_)};
  if (end < 0) return 0;
  iovec parts[] = {{&whose, sizeof whose}, {&ring_[offset], first * sizeof(Record)}, {&ring_[0], (count - first) * sizeof(Record)}};
  if (write_all(file_.get(), parts, 3, end)) return count;
  const off_t whole = (::lseek(file_.get(), 0, SEEK_END) - end) / static_cast<off_t>(sizeof(Record));
  [[maybe_unused]] const int truncated = ::ftruncate(file_.get(), end + whole * static_cast<off_t>(sizeof(Record)));
  return static_cast<uint32_t>(std::max<off_t>(whole - 1, 0));
}

void Trace::drain() {
  const uint32_t taken = head_->taken.load(std::memory_order_relaxed);
  const uint32_t count = head_->published.load(std::memory_order_acquire) - taken;
  if (count == 0) return;
  // A full disk costs the trace, never the server.
  const uint32_t written = failed_ ? 0 : write_batch(taken, count);
  if (written < count) {
    failed_ = true;
    unwritten_ += count - written;
  }
  head_->taken.store(taken + count, std::memory_order_release);
}

void Trace::write_loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait_for(lock, kDrainInterval);
    lock.unlock();
    drain();
    lock.lock();
  }
  drain();
}

int Trace::dump(const char* path, bool keep_others) {
  int result = begin_file(path, keep_others);
  if (result == 0) {
    const uint32_t taken = head_->taken.load(std::memory_order_relaxed);
    const uint32_t count = head_->written - taken;
    if (write_batch(taken, count) < count) result = -ENOSPC;
    end_file(false);
  }
  file_.reset();
  return result;
}

}  // namespace onewait
