#include "turn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "syscalls.h"

namespace onewait {

Turn::Turn(Poller* poller, TraceSlotRef trace)
    : poller_(poller), trace_(std::move(trace)), shared_(std::make_shared<Shared>()), origin_(monotonic_ns()) {
  shared_->head.deadline = std::numeric_limits<double>::infinity();
  ready_.reserve(Poller::kMaxReady);
}

int Turn::watch_host(int fd) {
  const int result = poller_->add(fd, onewait::kRead, 0);
  if (result < 0) return result;
  host_fd_ = fd;
  if (Trace* trace = trace_->active) trace->found(fd, "libuv");
  return result;
}

void Turn::unwatch_host() {
  if (host_fd_ >= 0) poller_->remove(host_fd_);
  host_fd_ = -1;
}

int64_t Turn::timeout_ns() const {
  const SharedHead& head = shared_->head;
  if (head.runnable != 0) return 0;
  if (!std::isfinite(head.deadline)) return std::isnan(head.deadline) ? 0 : Poller::kForever;
  const double left = std::ceil((head.deadline - now_ms()) * 1e6);
  if (left <= 0) return 0;
  // A wait of more than a day is cut; the loop finds nothing due and waits again. It keeps the arithmetic far from its limits.
  return static_cast<int64_t>(std::min(left, 86'400e9));
}

int Turn::flush() {
  SharedHead& head = shared_->head;
  const size_t count = std::clamp<int64_t>(head.submissions, 0, kSubmissions);
  head.submissions = 0;
  head.unwritten = 0;
  if (count == 0) return 0;
  ++flushes_;
  if (trace_->active) trace_->active->now();
  for (size_t i = 0; i < count; ++i) {
    const Submission& submission = shared_->submissions[i];
    if (submission.fd < 0 || submission.length < 0 || submission.offset < 0) continue;
    if (submission.op == Submission::kRead) {
      arm(submission);
    } else if (submission.op == Submission::kWrite) {
      write(submission);
    }
  }
  return head.unwritten;
}

void Turn::arm(const Submission& submission) {
  if (!poller_->has(submission.fd)) return;
  Slot& target = slot(submission.fd);
  target.armed = submission.length;
  target.task = submission.task;
  if (target.readable == 0 || submission.length == 0) return;
  if (const uint32_t generation = poller_->edge_generation(submission.fd); generation == target.readable) {
    remembered_.push_back({submission.fd, generation, onewait::kRead});
  }
}

void Turn::write(const Submission& submission) {
  const size_t offset = static_cast<size_t>(submission.offset);
  const size_t length = static_cast<size_t>(submission.length);
  if (offset > kOutBytes || length > kOutBytes - offset) return;
  const size_t fd = static_cast<size_t>(submission.fd);
  const bool blocked = fd < slots_.size() && slots_[fd].blocked == flushes_;
  int64_t result = 0;
  if (!blocked) {
    Trace* trace = trace_->active;
    do {
      result = transmit(submission.fd, shared_->out + offset, length);
    } while (result == -EINTR);
    if (trace) {
      trace->payload(shared_->out + offset, result);
      // From the end of the one before it: flush() reads the clock once.
      trace->syscall(trace->last(), Syscall::kSend, submission.fd, 0, 0, submission.length, result, static_cast<uint32_t>(submission.task));
    }
    if (result == submission.length) return;
    if (result == -EAGAIN) result = 0;
    if (result >= 0) slot(submission.fd).blocked = flushes_;
  }
  shared_->unwritten[shared_->head.unwritten++] = {
      Completion::kUnwritten, submission.fd, 0, static_cast<int32_t>(result), submission.offset, submission.length};
}

int Turn::wait(int64_t timeout_ns) {
  SharedHead& head = shared_->head;
  head.completions = 0;
  host_ready_ = false;
  starved_ = false;
  ready_.clear();
  std::swap(ready_, remembered_);
  const size_t known = ready_.size();
  const int result = poller_->wait(ready_.empty() ? timeout_ns : 0, kBatch, ready_);
  head.now = now_ms();
  if (result < 0 && ready_.empty()) return result;
  Trace* trace = trace_->active;
  for (size_t i = 0; i < ready_.size(); ++i) {
    Ready& ready = ready_[i];
    if (ready.fd == host_fd_) {
      host_ready_ = true;
      if (trace) trace->host();
      continue;
    }
    // What was remembered may be registered otherwise since.
    const bool edge = i < known ? poller_->edge_generation(ready.fd) == ready.generation : (ready.events & kEdge) != 0;
    if (i < known && !edge) continue;
    const uint32_t news = i >= known ? ready.events & (onewait::kRead | onewait::kWrite) : 0;
    Slot& target = slot(ready.fd);
    if (edge) target.readable = ready.generation;
    if (ready.events & kHangup) target.hangup = ready.generation;
    if ((ready.events & onewait::kRead) && target.armed > 0) {
      // Out of memory to read into, or of room for completions: what is left stays ready, or is remembered if it was news.
      if (head.completions == Poller::kMaxReady || !read(ready, news, target)) {
        if (trace && news != 0) trace->ready(ready.fd, ready.generation, news);
        starved_ = true;
        if (edge) remembered_.push_back(ready);
        continue;
      }
      ready.events &= ~onewait::kRead;
    } else if (trace && news != 0) {
      trace->ready(ready.fd, ready.generation, news);
    }
    ready.events &= edge ? onewait::kWrite : onewait::kRead | onewait::kWrite;
    if (ready.events != 0 && head.completions < Poller::kMaxReady) complete(Completion::kReady, ready, static_cast<int32_t>(ready.events), 0);
  }
  return head.completions;
}

/** Reads for the suspended reader; `news` is what the wait reported. False when there is no memory left to read into: the turn ends here, nothing is lost. */
bool Turn::read(const Ready& ready, uint32_t news, Slot& target) {
  SharedHead& head = shared_->head;
  const size_t page_used = static_cast<size_t>(std::max(head.page_cursor, 0));
  const size_t slab_used = static_cast<size_t>(std::max(head.slab_cursor, 0));
  if (page_used + kSmall > page_.length || slab_used + kReadBytes > slab_.length) return false;
  uint8_t* destination = slab_.data + slab_used;
  const size_t wanted = std::min(static_cast<size_t>(target.armed), kReadBytes);
  int64_t result;
  do {
    result = receive(ready.fd, destination, wanted);
  } while (result == -EINTR);
  if (Trace* trace = trace_->active) {
    trace->payload(destination, result);
    // From the end of the call before it, be it the wait. Readiness and what is done for it are one record.
    trace->syscall(trace->last(), Syscall::kRecv, ready.fd, ready.generation, news, static_cast<int64_t>(wanted), result,
                   static_cast<uint32_t>(target.task));
  }
  const bool drained = result == -EAGAIN || (result > 0 && result < static_cast<int64_t>(wanted) && target.hangup != ready.generation);
  if (drained) target.readable = 0;
  if (result == -EAGAIN) return true;  // readiness can be spurious (select(2), BUGS): still armed, waits again
  target.armed = 0;
  if (result >= static_cast<int64_t>(kSmall)) {
    complete(Completion::kReadSlab, ready, static_cast<int32_t>(result), head.slab_cursor);
    head.slab_cursor += static_cast<int32_t>(result);
    return true;
  }
  complete(Completion::kReadPage, ready, static_cast<int32_t>(result), head.page_cursor);
  if (result > 0) {
    std::memcpy(page_.data + page_used, destination, static_cast<size_t>(result));
    head.page_cursor += static_cast<int32_t>(result);
  }
  return true;
}

void Turn::complete(int32_t kind, const Ready& ready, int32_t result, int32_t offset) {
  shared_->completions[shared_->head.completions++] = {kind, ready.fd, static_cast<int32_t>(ready.generation), result, offset, 0};
}

void Turn::forget(int fd) {
  if (fd >= 0 && static_cast<size_t>(fd) < slots_.size()) slots_[fd] = {};
}

}  // namespace onewait
