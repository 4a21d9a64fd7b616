// The watchdog: says who holds up the loop, while it is held up.
//
// A coroutine that never waits stops everybody, and nothing in its own thread can say so: not the loop, and not a timer. So a thread of its own looks
// at when the last turn ended (Pulse), and when that is too long ago it has V8 interrupt the running JavaScript (v8::Isolate::RequestInterrupt) just
// long enough to note which task that is, and where. What does not come back to JavaScript, a system call that blocks, cannot be interrupted: that
// is said, too, and who made it as soon as it comes back.
//
// An interrupt must not run JavaScript. The task is therefore read, not asked for: in `await` style from V8's continuation-preserved slot
// (native/async_context.h), otherwise from a property that src/current.ts keeps.
#pragma once

#include <node_api.h>
#include <pthread.h>
#include <v8.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "turn.h"

namespace onewait {

class Watchdog {
 public:
  /**
   * Reports on standard error what holds up the loop for `limit_ns`. `running` has the task that is stepped in its property `task`; `identity` tells what is
   * a task in the async context: the prototype of all tasks, or from Node 24 on the AsyncLocalStorage that they are kept in. Null, and *error = -errno,
   * when there can be no thread.
   */
  static std::unique_ptr<Watchdog> start(PulseRef pulse, uint64_t limit_ns, v8::Local<v8::Object> running, v8::Local<v8::Object> identity, int* error);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  /** What the interrupt needs, which may come when the watchdog is gone. */
  struct Watch;

  explicit Watchdog(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {}
  static void* run(void* self);
  static void on_interrupt(v8::Isolate* isolate, void* data);
  void look();
  static void tell(std::unique_lock<std::mutex>& lock, const std::string& what);

  std::shared_ptr<Watch> watch_;
  pthread_t thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
};

}  // namespace onewait
