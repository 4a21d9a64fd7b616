#include "turn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "syscalls.h"

namespace onewait {
namespace {

/** Whether it may be io_uring that refuses, and not the socket. Nothing has been sent then. */
bool is_of_the_ring(int64_t result) {
  return result == -EINTR || result == -ENOMEM || result == -EINVAL || result == -EACCES || result == -ECANCELED;
}

}  // namespace

Turn::Turn(Poller* poller, TraceSlotRef trace, PulseRef pulse, std::shared_ptr<LazyCallRing> ring)
    : poller_(poller), trace_(std::move(trace)), pulse_(std::move(pulse)), ring_(std::move(ring)), shared_(std::make_shared<Shared>()), origin_(monotonic_ns()) {
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

/** How long the next wait may block: 0 when tasks are runnable, or are to hear of writes, and `limit_ns` when nothing is due before. */
int64_t Turn::timeout_ns(int64_t limit_ns) const {
  const SharedHead& head = shared_->head;
  if (head.runnable != 0 || head.unwritten > 0) return 0;
  if (!std::isfinite(head.deadline)) return std::isnan(head.deadline) ? 0 : limit_ns;
  const double left = std::ceil((head.deadline - now_ms()) * 1e6);
  if (left <= 0) return 0;
  // A wait of more than a day is cut; the loop finds nothing due and waits again. It keeps the arithmetic far from its limits.
  const int64_t due = static_cast<int64_t>(std::min(left, 86'400e9));
  return limit_ns < 0 ? due : std::min(due, limit_ns);
}

int Turn::flush() {
  collect_submissions();
  if (!transmit_all()) report_unwritten();
  return shared_->head.unwritten;
}

/** Arms the queued reads, and finds the writes. */
void Turn::collect_submissions() {
  SharedHead& head = shared_->head;
  const size_t count = std::clamp<int64_t>(head.submissions, 0, kSubmissions);
  head.submissions = 0;
  head.unwritten = 0;
  begin_transfers();
  for (size_t i = 0; i < count; ++i) {
    const Submission& submission = shared_->submissions[i];
    if (submission.fd < 0 || submission.length < 0 || submission.offset < 0) continue;
    if (submission.op == Submission::kRead) {
      arm(submission);
    } else if (submission.op == Submission::kWrite) {
      const size_t offset = static_cast<size_t>(submission.offset);
      const size_t length = static_cast<size_t>(submission.length);
      if (offset > kOutBytes || length > kOutBytes - offset) continue;
      add_transfer({submission.fd, submission.task, shared_->out + offset, length, 0, 0, Transfer::kNot, 0});
    }
  }
  write_count_ = transfer_count_;
}

void Turn::send(std::span<const Area> data) {
  begin_transfers();
  for (size_t i = 0; i < data.size(); ++i) {
    const Send& send = shared_->sends[i];
    add_transfer({send.fd, send.task, data[i].data, data[i].length, 0, 0, Transfer::kNot, 0});
  }
  write_count_ = transfer_count_;
  transmit_all();
  for (size_t i = 0; i < data.size(); ++i) {
    const int64_t result = transfers_[i].result;
    shared_->sends[i].result = result == -EAGAIN ? 0 : static_cast<int32_t>(result);
  }
}

void Turn::arm(const Submission& submission) {
  if (!poller_->has(submission.fd)) return;
  Slot& target = slot(submission.fd);
  target.armed = submission.length;
  target.task = submission.task;
  if (submission.length == 0) return;
  if (target.alone == 0) {
    target.place = queue_end_++;
    queue_[target.place % kQueue] = submission.fd;
    if (queue_end_ - queue_begin_ > kQueue) ++queue_begin_;
  }
  if (target.readable == 0) return;
  if (const uint32_t generation = poller_->edge_generation(submission.fd); generation == target.readable) {
    remembered_.push_back({submission.fd, generation, onewait::kRead});
  }
}

/** Makes the writes that were collected. Whether the kernel took all bytes of all of them. */
bool Turn::transmit_all() {
  const std::span<Transfer> writes = this->writes();
  ++flushes_;
  const bool traced = trace_->active != nullptr && !writes.empty();
  if (traced) {
    trace_->active->now();
    batch_clock_.begin();
  }
  bool whole = true;
  for (size_t next = 0; next < writes.size();) {
    const uint64_t begin = traced ? ticks() : 0;
    const size_t together = transmit_together(writes.subspan(next));
    const size_t end = next + std::max<size_t>(together, 1);
    if (together == 0) transmit_one(writes[next]);
    const uint64_t share = traced ? (ticks() - begin) / (end - next) : 0;
    for (uint64_t time = begin; next < end; ++next) {
      Transfer& write = writes[next];
      if (traced && write.made != Transfer::kNot) write.end = time += share;
      if (write.result == static_cast<int64_t>(write.length)) continue;
      whole = false;
      if (write.result >= 0 || write.result == -EAGAIN) slot(write.fd).blocked = flushes_;
    }
  }
  if (traced) {
    batch_clock_.end();
    record_writes();
  }
  return whole;
}

/** Bytes must not overtake those before them that are left. */
bool Turn::overtakes(const Transfer& write) const {
  return static_cast<size_t>(write.fd) < slots_.size() && slots_[write.fd].blocked == flushes_;
}

void Turn::transmit_one(Transfer& write) {
  if (overtakes(write)) return;
  write.made = Transfer::kAlone;
  do {
    write.result = transmit(write.fd, write.data, write.length);
  } while (write.result == -EINTR);
}

/**
 * Makes the first of the writes in one system call, as many as go to different descriptors, and with the last of them what reads there are: those of a
 * turn without a wait. How many writes: 0 when that would not help, or cannot be.
 */
size_t Turn::transmit_together(std::span<Transfer> writes) {
  if (writes.size() < kWorthARing || ring_ == nullptr) return 0;
  CallRing* const ring = ring_->get();
  if (ring == nullptr) return 0;
  ++batches_;
  for (const Transfer& write : writes) {
    if (ring->full() || static_cast<size_t>(write.fd) >= kDescriptors || overtakes(write)) break;
    uint32_t& batch = slot(write.fd).batch;
    if (batch == batches_) break;
    batch = batches_;
    ring->add_send(write.fd, write.data, write.length);
  }
  if (ring->size() < kWorthARing) {
    ring->clear();
    return 0;
  }
  const size_t sends = ring->size();
  if (sends == writes.size() && !reads().empty()) add_receives_behind(*ring);
  const size_t made = ring->submit();
  const size_t sent = std::min(made, sends);
  for (size_t i = 0; i < sent; ++i) {
    writes[i].made = Transfer::kTogether;
    writes[i].result = ring->result(static_cast<uint32_t>(i));
    if (is_of_the_ring(writes[i].result)) transmit_one(writes[i]);
  }
  made_early_ = made - sent;
  take_received(*ring, static_cast<uint32_t>(sends), reads().first(made_early_));
  return sent;
}

/** Adds the reads, as far as there is memory to read into. */
void Turn::add_receives_behind(CallRing& ring) {
  const size_t page_used = static_cast<size_t>(shared_->head.page_cursor);
  const size_t slab_used = static_cast<size_t>(shared_->head.slab_cursor);
  if (page_used + kSmall > page_.length || slab_used + kReadBytes > slab_.length) return;
  add_receives(ring, reads(), slab_.data + slab_used, slab_.length - slab_used);
}

void Turn::record_writes() {
  Trace* trace = trace_->active;
  for (const Transfer& write : writes()) {
    if (write.made == Transfer::kNot) continue;  // it would have overtaken another
    const int64_t length = static_cast<int64_t>(write.length);
    trace->payload(write.data, write.result);
    const Syscall call = write.made == Transfer::kTogether ? Syscall::kRingSend : Syscall::kSend;
    trace->passed(batch_clock_.time_of(write.end), call, write.fd, 0, 0, length, write.result, static_cast<uint32_t>(write.task));
  }
}

void Turn::report_unwritten() {
  SharedHead& head = shared_->head;
  for (const Transfer& write : writes()) {
    const int64_t length = static_cast<int64_t>(write.length);
    if (write.result == length) continue;
    const int64_t result = write.result == -EAGAIN ? 0 : write.result;
    const int32_t offset = static_cast<int32_t>(write.data - shared_->out);
    shared_->unwritten[head.unwritten++] = {Completion::kUnwritten, write.fd, 0, static_cast<int32_t>(result), offset, static_cast<int32_t>(length)};
  }
}

int Turn::run(int64_t limit_ns) {
  pulse_->returned_ns.store(0, std::memory_order_relaxed);
  const int completions = take_turn(limit_ns);
  pulse_->returned_ns.store(origin_ + static_cast<uint64_t>(shared_->head.now * 1e6), std::memory_order_relaxed);
  return completions;
}

int Turn::take_turn(int64_t limit_ns) {
  SharedHead& head = shared_->head;
  head.completions = 0;
  head.page_cursor = std::max(head.page_cursor, 0);
  head.slab_cursor = std::max(head.slab_cursor, 0);
  host_ready_ = false;
  starved_ = false;
  collect_submissions();
  ready_.clear();
  std::swap(ready_, remembered_);
  const bool guessed = ready_.empty() && guess();
  const size_t known = ready_.size();
  if (guessed) collect_reads(known);
  if (!transmit_all()) report_unwritten();
  int result = 0;
  if (!guessed) {
    // Those that are known to have more, floods, are read in any case: they are no reason to look at fewer of the others.
    const int most = static_cast<int>(known > 0 ? kBatch : batch_);
    result = poller_->wait(known > 0 ? 0 : timeout_ns(limit_ns), most, ready_);
    head.now = now_ms();
    note_wait(result >= most, known);
    if (result < 0 && ready_.empty()) return result;
    collect_reads(known);
  }
  Trace* trace = trace_->active;
  const size_t missed = receive_all();
  const std::span<const Transfer> reads = this->reads();
  if (guessed) {
    head.now = now_ms();
    if (missed * kTriesPerMiss > reads.size()) unasked_until_ms_ = 0;
  }
  const Transfer* read = reads.data();
  const Transfer* const last = read + reads.size();
  for (size_t i = 0; i < ready_.size(); ++i) {
    Ready& ready = ready_[i];
    if (ready.fd == host_fd_) {
      host_ready_ = true;
      if (trace) trace->host();
      continue;
    }
    if (ready.events & kStale) continue;
    const bool edge = (ready.events & kEdge) != 0;
    const uint32_t news = i >= known ? ready.events & (onewait::kRead | onewait::kWrite) : 0;
    Slot& target = slot(ready.fd);
    if (edge) target.readable = ready.generation;
    if (ready.events & kHangup) target.hangup = ready.generation;
    if (ready.events & kTaken) {
      if (read == last || !settle_read(*read++, ready, news, target)) {
        if (trace && news != 0) trace->ready(ready.fd, ready.generation, news);
        if (!starved_) poller_->continue_at(ready.fd);
        starved_ = true;
        if (edge) remembered_.push_back({ready.fd, ready.generation, onewait::kRead});
        continue;
      }
      ready.events &= ~onewait::kRead;
    } else if (trace && news != 0) {
      trace->ready(ready.fd, ready.generation, news);
    }
    ready.events &= edge ? onewait::kWrite : onewait::kRead | onewait::kWrite;
    const size_t room = Poller::kMaxReady - static_cast<size_t>(last - read);
    if (ready.events != 0 && static_cast<size_t>(head.completions) < room) complete(Completion::kReady, ready, static_cast<int32_t>(ready.events), 0);
  }
  return head.completions;
}

/** What a wait says of whether the loop is behind: it brought all it might, or not. What was ready before it are the first `known`. */
void Turn::note_wait(bool full, size_t known) {
  bool over = !full;
  for (size_t i = known; i < ready_.size(); ++i) {
    Slot& target = slot(ready_[i].fd);
    over |= target.round == round_;
    target.round = round_;
    round_mixed_ |= !(ready_[i].events & kEdge) || target.alone > 0;
    ++round_reports_;
  }
  if (!over) return;
  // Of more readers the queue does not know who has waited longest.
  unasked_until_ms_ = full && !round_mixed_ && round_reports_ <= kQueue ? shared_->head.now + kUnaskedMs : 0;
  round_mixed_ = false;
  round_reports_ = 0;
  ++round_;
}

/** In a turn without a wait: takes the readers that have waited longest for ready, as far as they are expected to be small. Whether there are any. */
bool Turn::guess() {
  // A trace is to say what was ready, and when.
  if (unasked_until_ms_ == 0 || trace_->active != nullptr || now_ms() >= unasked_until_ms_) return false;
  while (queue_begin_ != queue_end_ && ready_.size() < batch_) {
    const uint32_t place = queue_begin_++;
    const int fd = queue_[place % kQueue];
    const Slot& reader = slot(fd);
    if (reader.armed == 0 || reader.place != place || reader.alone > 0) continue;
    if (const uint32_t generation = poller_->edge_generation(fd); generation != 0) ready_.push_back({fd, generation, onewait::kRead});
  }
  return !ready_.empty();
}

/** Finds the suspended readers among what is ready, of which the first `known` were not reported just now, and disarms those that there is room for. */
void Turn::collect_reads(size_t known) {
  for (size_t i = 0; i < ready_.size(); ++i) {
    Ready& ready = ready_[i];
    if (ready.fd == host_fd_) continue;
    if (i < known) {
      // It may be registered otherwise since.
      ready.events |= poller_->edge_generation(ready.fd) == ready.generation ? kEdge : kStale;
    }
    Slot& target = slot(ready.fd);
    if ((ready.events & kStale) || !(ready.events & onewait::kRead) || target.armed == 0) continue;
    ready.events |= kTaken;
    if (reads().size() == Poller::kMaxReady) continue;
    add_transfer({ready.fd, target.task, nullptr, 0, 0, 0, Transfer::kNot, target.armed});
    target.armed = 0;
  }
}

/** Reads for the suspended readers, as far as there is memory to read into. What is not reached is not made. How many found nothing. */
size_t Turn::receive_all() {
  const std::span<Transfer> reads = this->reads();
  const bool traced = trace_->active != nullptr && !reads.empty();
  if (traced) batch_clock_.begin();
  SharedHead& head = shared_->head;
  size_t page_used = static_cast<size_t>(head.page_cursor);
  size_t slab_used = static_cast<size_t>(head.slab_cursor);
  size_t total = 0;
  size_t brought = 0;
  size_t missed = 0;
  for (size_t next = 0; next < reads.size();) {
    if (page_used + kSmall > page_.length) break;
    if (slab_used + kReadBytes > slab_.length) {
      head.slab_cursor = static_cast<int32_t>(std::min(slab_used, slab_.length));  // also what small reads passed through: JavaScript shall replace it
      break;
    }
    const uint64_t begin = traced ? ticks() : 0;
    uint8_t* const to = slab_.data + slab_used;
    const size_t together = next < made_early_ ? made_early_ : receive_together(reads.subspan(next), to, slab_.length - slab_used);
    const size_t end = next + std::max<size_t>(together, 1);
    if (together == 0) receive_one(reads[next], to, kReadBytes);
    const uint64_t share = traced ? (ticks() - begin) / (end - next) : 0;
    slab_used += together * kPlace;
    for (uint64_t time = begin; next < end; ++next) {
      Transfer& read = reads[next];
      if (traced) read.end = time += share;
      if (read.result == -EAGAIN) ++missed;
      if (read.result <= 0) continue;
      const size_t bytes = static_cast<size_t>(read.result);
      total += bytes;
      ++brought;
      if (together == 0) slab_used += bytes;
      if (bytes < kSmall) page_used += bytes;
      Slot& target = slot(read.fd);
      if (bytes >= kPlace) target.alone = kReadsAlone;
      else if (target.alone > 0) --target.alone;
    }
  }
  if (traced) batch_clock_.end();
  if (brought > 0) batch_ = std::clamp(kBatchBytes * brought / total, kWorthARing, kBatch);
  return missed;
}

void Turn::receive_one(Transfer& read, uint8_t* to, size_t room) {
  read.made = Transfer::kAlone;
  read.data = to;
  read.length = std::min(static_cast<size_t>(read.armed), room);
  do {
    read.result = receive(read.fd, read.data, read.length);
  } while (read.result == -EINTR);
}

/** Makes the first of the reads in one system call, as far as they are expected to be small. How many: 0 when that would not help, or cannot be. */
size_t Turn::receive_together(std::span<Transfer> reads, uint8_t* to, size_t room) {
  if (reads.size() < kWorthARing || ring_ == nullptr) return 0;
  CallRing* const ring = ring_->get();
  if (ring == nullptr) return 0;
  add_receives(*ring, reads, to, room);
  if (ring->size() < kWorthARing) {
    ring->clear();
    return 0;
  }
  const size_t made = ring->submit();
  take_received(*ring, 0, reads.first(made));
  return made;
}

/** Adds the first of the reads, as far as they are expected to be small. */
void Turn::add_receives(CallRing& ring, std::span<Transfer> reads, uint8_t* to, size_t room) {
  size_t count = 0;
  for (Transfer& read : reads) {
    if (ring.full() || (count + 1) * kPlace > room || slot(read.fd).alone > 0) break;
    read.data = to + count++ * kPlace;
    read.length = std::min(static_cast<size_t>(read.armed), kPlace);
    ring.add_receive(read.fd, read.data, read.length);
  }
}

/** What has become of the reads that the ring has from `first` on. */
void Turn::take_received(const CallRing& ring, uint32_t first, std::span<Transfer> reads) {
  for (Transfer& read : reads) {
    read.made = Transfer::kTogether;
    read.result = ring.result(first++);
    if (is_of_the_ring(read.result)) receive_one(read, read.data, kPlace);
  }
}

/** Hands over what was read; `news` is what the wait reported. False when nothing was, for lack of memory: it is armed as before. */
bool Turn::settle_read(const Transfer& read, const Ready& ready, uint32_t news, Slot& target) {
  SharedHead& head = shared_->head;
  const int64_t wanted = static_cast<int64_t>(read.length);
  if (read.made == Transfer::kNot) {
    target.armed = read.armed;
    return false;
  }
  if (Trace* trace = trace_->active) {
    trace->payload(read.data, read.result);
    // From the end of the call before it, be it the wait. Readiness and what is done for it are one record.
    const Syscall call = read.made == Transfer::kTogether ? Syscall::kRingRecv : Syscall::kRecv;
    trace->passed(batch_clock_.time_of(read.end), call, ready.fd, ready.generation, news, wanted, read.result, static_cast<uint32_t>(read.task));
  }
  const bool drained = read.result == -EAGAIN || (read.result > 0 && read.result < wanted && target.hangup != ready.generation);
  if (drained) target.readable = 0;
  if (read.result == -EAGAIN) {  // readiness can be spurious (select(2), BUGS): armed again, waits again
    target.armed = read.armed;
    return true;
  }
  const int32_t result = static_cast<int32_t>(read.result);
  if (result >= static_cast<int32_t>(kSmall) || (result > 0 && head.page_cursor + static_cast<size_t>(result) > page_.length)) {
    const int32_t offset = static_cast<int32_t>(read.data - slab_.data);
    complete(Completion::kReadSlab, ready, result, offset);
    head.slab_cursor = std::max(head.slab_cursor, offset + result);
    return true;
  }
  complete(Completion::kReadPage, ready, result, head.page_cursor);
  if (result > 0) {
    std::memcpy(page_.data + head.page_cursor, read.data, static_cast<size_t>(result));
    head.page_cursor += result;
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
