#include "call_ring.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>

namespace onewait {
namespace {

// Flags that headers before Linux 6.1 lack: submit all however one fares; one thread; completions are handed out when that thread asks.
constexpr uint32_t kSubmitAll = 1u << 7;
constexpr uint32_t kSingleIssuer = 1u << 12;
constexpr uint32_t kDeferTaskrun = 1u << 13;

constexpr size_t kEntryBytes = CallRing::kEntries * sizeof(io_uring_sqe);
/** As much as send(2) takes at a time (MAX_RW_COUNT). */
constexpr size_t kMostBytes = 0x7ffff000;

void* map_shared(size_t bytes, int fd, off_t offset) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

std::unique_ptr<CallRing> CallRing::open(bool* later) {
  for (const uint32_t flags : {kSubmitAll | kSingleIssuer | kDeferTaskrun, 0u}) {
    std::unique_ptr<CallRing> ring(new CallRing());
    const int64_t result = ring->set_up(flags);
    if (result == 0) return ring;
    *later = result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -EAGAIN;
  }
  return nullptr;
}

CallRing* LazyCallRing::get() {
  if (ring_ != nullptr && ring_->broken()) ring_.reset();
  if (asks_until_next_ > 0 && --asks_until_next_ == 0) {
    bool later = false;
    ring_ = CallRing::open(&later);
    if (later) asks_until_next_ = kPatience;
  }
  return ring_.get();
}

CallRing::~CallRing() {
  if (entries_ != nullptr) munmap(entries_, kEntryBytes);
  if (queues_ != nullptr) munmap(queues_, queue_bytes_);
}

/** 0, or -errno. */
int64_t CallRing::set_up(uint32_t flags) {
  io_uring_params parameters{};
  parameters.flags = flags;
  const int64_t result = outcome(::syscall(SYS_io_uring_setup, kEntries, &parameters));
  if (result < 0) return result;
  fd_.reset(static_cast<int>(result));
  if ((parameters.features & IORING_FEAT_SINGLE_MMAP) == 0) return -ENOSYS;
  return map(parameters) ? 0 : -ENOMEM;
}

bool CallRing::map(const io_uring_params& parameters) {
  const io_sqring_offsets& submissions = parameters.sq_off;
  const io_cqring_offsets& completions = parameters.cq_off;
  queue_bytes_ = std::max(submissions.array + parameters.sq_entries * sizeof(uint32_t),
                          completions.cqes + parameters.cq_entries * sizeof(io_uring_cqe));
  queues_ = static_cast<uint8_t*>(map_shared(queue_bytes_, fd_.get(), IORING_OFF_SQ_RING));
  if (queues_ == nullptr) return false;
  entries_ = static_cast<io_uring_sqe*>(map_shared(kEntryBytes, fd_.get(), IORING_OFF_SQES));
  if (entries_ == nullptr) return false;
  const auto word = [this](uint32_t offset) { return reinterpret_cast<uint32_t*>(queues_ + offset); };
  head_ = word(submissions.head);
  tail_ = word(submissions.tail);
  // Entries are used in the order of their numbers, always.
  for (uint32_t i = 0; i < kEntries; ++i) word(submissions.array)[i] = i;
  completed_head_ = word(completions.head);
  completed_tail_ = word(completions.tail);
  completions_ = reinterpret_cast<const io_uring_cqe*>(queues_ + completions.cqes);
  completions_mask_ = parameters.cq_entries - 1;
  return true;
}

void CallRing::add(uint8_t operation, int fd, const void* data, size_t length, uint32_t flags) {
  io_uring_sqe& entry = entries_[(*tail_ + size_) % kEntries];
  entry = {};
  entry.opcode = operation;
  entry.fd = fd;
  entry.addr = reinterpret_cast<uint64_t>(data);
  entry.len = static_cast<uint32_t>(std::min(length, kMostBytes));
  entry.msg_flags = flags;
  entry.user_data = size_++;
}

uint32_t CallRing::submit() {
  const uint32_t begin = *tail_;
  std::atomic_ref(*tail_).store(begin + size_, std::memory_order_release);
  // One that names no open descriptor ends a call before its time on older kernels; it is completed all the same. What counts is what was taken
  // from this ring: its number may be another's by now.
  uint32_t made = 0;
  for (bool more = true; more && made < size_;) {
    more = enter(size_ - made, 0);
    const uint32_t taken = std::atomic_ref(*head_).load(std::memory_order_acquire) - begin;
    if (more && taken == made) {
      give_up(true);
      more = false;
    }
    made = taken;
  }
  // Where the kernel is short of memory, what it has not taken is ours to take back.
  std::atomic_ref(*tail_).store(begin + made, std::memory_order_release);
  // Everything has been completed by now. If it had not, the kernel would still be at the caller's memory.
  for (uint32_t done = reap(); done < made && enter(0, made - done);) done += reap();
  size_ = 0;
  return made;
}

/** Whether it may be called again. */
bool CallRing::enter(uint32_t count, uint32_t wanted) {
  const uint32_t flags = wanted > 0 ? IORING_ENTER_GETEVENTS : 0;
  int64_t result;
  do {
    result = outcome(::syscall(SYS_io_uring_enter, fd_.get(), count, wanted, flags, nullptr, 0));
  } while (result == -EINTR);
  if (result >= 0) return true;
  if (result != -EAGAIN && result != -EBUSY && result != -ENOMEM) give_up(result != -EPERM && result != -EACCES && result != -ENOSYS);
  return false;
}

/** `lost`: the number is somebody else's by now, or nobody's, and not ours to close. */
void CallRing::give_up(bool lost) {
  broken_ = true;
  if (lost) fd_.release();
}

/** Takes what is completed; returns how many. */
uint32_t CallRing::reap() {
  const uint32_t begin = *completed_head_;
  const uint32_t end = std::atomic_ref(*completed_tail_).load(std::memory_order_acquire);
  for (uint32_t at = begin; at != end; ++at) {
    const io_uring_cqe& completion = completions_[at & completions_mask_];
    results_[completion.user_data % kEntries] = completion.res;
  }
  std::atomic_ref(*completed_head_).store(end, std::memory_order_release);
  return end - begin;
}

}  // namespace onewait
