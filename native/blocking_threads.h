// Native threads that block in connect(2), send(2) and recv(2) on behalf of others: what an event loop is to replace, as well done as it can be,
// to compare with. Finished calls make a descriptor readable, so whoever waits for them waits in the one blocking call of its own thread.
//
// Deliberately absent: any knowledge of Node, and the trace, which has one producer.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "sockets.h"

namespace onewait {

/** One call: connects if there is no `fd` yet, sends `request`, and receives what comes first. */
struct BlockingCall {
  uint32_t id = 0;
  int fd = -1;
  SocketAddress address;
  std::vector<uint8_t> request;
  std::vector<uint8_t> response;
  int64_t result = 0;  // bytes received, 0 for the end, or -errno; -ETIMEDOUT when the patience was over
};

class BlockingThreads {
 public:
  /** No call blocks longer than `patience_ms`, in each of its steps. */
  BlockingThreads(int threads, int patience_ms);
  /** Ends what is under way and waits for the threads. */
  ~BlockingThreads();
  BlockingThreads(const BlockingThreads&) = delete;
  BlockingThreads& operator=(const BlockingThreads&) = delete;

  /** 0, or -errno when something that it needs could not be had. */
  int error() const { return error_; }
  /** Readable while finished calls are there to be taken. */
  int fd() const { return event_.get(); }
  void submit(BlockingCall call);
  std::vector<BlockingCall> take();

 private:
  static void* run(void* start);
  void work(size_t index);
  void carry_out(size_t index, BlockingCall& call);
  int open(size_t index, BlockingCall& call);
  bool claim(size_t index, int fd);

  const int patience_ms_;
  Fd event_;
  int error_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<BlockingCall> waiting_;
  std::vector<BlockingCall> finished_;
  std::vector<int> busy_;  // by thread: the descriptor that it may be blocked on, or -1
  std::vector<pthread_t> threads_;
};

}  // namespace onewait
