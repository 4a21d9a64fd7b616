#include "blocking_threads.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "syscalls.h"
#include "thread.h"

namespace onewait {

namespace {

/** Whom a new thread works for. */
struct Start {
  BlockingThreads* threads;
  size_t index;
};

constexpr size_t kResponseBytes = 16 * 1024;

}  // namespace

BlockingThreads::BlockingThreads(int threads, int patience_ms)
    : patience_ms_(patience_ms), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), busy_(static_cast<size_t>(threads), -1) {
  if (event_.get() < 0) {
    error_ = static_cast<int>(outcome(-1));
    return;
  }
  for (size_t i = 0; error_ == 0 && i < busy_.size(); ++i) {
    auto start = std::make_unique<Start>(this, i);
    pthread_t thread;
    error_ = start_thread(&thread, run, start.get());
    if (error_ != 0) continue;
    (void)start.release();
    threads_.push_back(thread);
  }
}

void* BlockingThreads::run(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  start->threads->work(start->index);
  return nullptr;
}

BlockingThreads::~BlockingThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    waiting_.clear();
    // Whoever is blocked on a socket that is shut down returns.
    for (const int fd : busy_) {
      if (fd >= 0) ::shutdown(fd, SHUT_RDWR);
    }
  }
  wake_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

void BlockingThreads::submit(BlockingCall call) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(call));
  }
  wake_.notify_one();
}

std::vector<BlockingCall> BlockingThreads::take() {
  const std::lock_guard lock(mutex_);
  uint64_t count;
  (void)!::read(event_.get(), &count, sizeof count);
  return std::exchange(finished_, {});
}

void BlockingThreads::work(size_t index) {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    BlockingCall call = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    carry_out(index, call);
    lock.lock();
    busy_[index] = -1;
    finished_.push_back(std::move(call));
    const uint64_t one = 1;
    if (finished_.size() == 1) (void)!::write(event_.get(), &one, sizeof one);
  }
}

/** Says which descriptor the thread may block on from now; false when it must not any more. */
bool BlockingThreads::claim(size_t index, int fd) {
  const std::lock_guard lock(mutex_);
  busy_[index] = fd;
  return !stopping_;
}

void BlockingThreads::carry_out(size_t index, BlockingCall& call) {
  if (call.fd >= 0 && !claim(index, call.fd)) {
    call.result = -ECANCELED;
    return;
  }
  if (call.fd < 0) {
    call.result = open(index, call);
    if (call.result < 0) return;
  }
  // The time-outs are the socket's (SO_SNDTIMEO, SO_RCVTIMEO; socket(7)), and look like EAGAIN.
  for (size_t sent = 0; sent < call.request.size();) {
    const int64_t count = outcome(::send(call.fd, call.request.data() + sent, call.request.size() - sent, MSG_NOSIGNAL));
    if (count == -EINTR) continue;
    if (count < 0) {
      call.result = count == -EAGAIN ? -ETIMEDOUT : count;
      return;
    }
    sent += static_cast<size_t>(count);
  }
  uint8_t response[kResponseBytes];
  do {
    call.result = outcome(::recv(call.fd, response, sizeof response, 0));
  } while (call.result == -EINTR);
  if (call.result == -EAGAIN) call.result = -ETIMEDOUT;
  if (call.result > 0) call.response.assign(response, response + call.result);
}

int BlockingThreads::open(size_t index, BlockingCall& call) {
  Fd fd(::socket(call.address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (fd.get() < 0) return static_cast<int>(outcome(-1));
  const timeval patience{patience_ms_ / 1000, (patience_ms_ % 1000) * 1000};
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0 ||
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
    return static_cast<int>(outcome(-1));
  if (!claim(index, fd.get())) return -ECANCELED;
  const int64_t result = outcome(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&call.address.storage), call.address.length));
  if (result < 0) {
    claim(index, -1);
    return result == -EINPROGRESS ? -ETIMEDOUT : static_cast<int>(result);
  }
  call.fd = fd.release();
  return 0;
}

}  // namespace onewait
