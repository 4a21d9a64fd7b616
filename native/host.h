// The host: Node itself is one more descriptor of ours.
//
// While a hosted loop runs, libuv never blocks: an active idle handle makes its own poll return at once, and the one
// blocking call of the process is our poller's wait, made in a check callback with libuv's backend descriptor in the set.
// Timers, fs, http and signal handlers of Node go on working: when libuv's descriptor is ready or its timers are due we
// return, and libuv runs a turn of its own.
//
// Why a check callback: it is called at depth 0, so napi_make_callback drains nextTicks and microtasks after each batch.
// A function that blocks when called from JavaScript cannot: promises would never resume (ESM after an await, for one).
//
// - When nothing of ours is pending the handles are unreferenced, and the process ends by itself.
// - An exception that escapes a batch becomes an uncaughtException, as in any callback of Node. So does a wait that fails: trying again
//   at once would spin, and nothing that is suspended could ever go on.
// - The handles are closed by an asynchronous cleanup hook, without which a worker that exits crashes.
// - What is due when nothing has happened for some time is told by a timerfd that libuv watches. A timeout of the wait would do, but has the
//   kernel set up a timer for every wait: half a microsecond of each turn.
#pragma once

#include <node_api.h>
#include <uv.h>

#include <memory>

#include "syscalls.h"
#include "turn.h"

namespace onewait {

/** Whose turn it is. */
class HostClient {
 public:
  /** Looks up the memory of page and slab. */
  virtual void before_wait() = 0;
  /** Nothing has happened for some seconds, and much before that; or `still` nothing has, since it answered that it wants to be told once more. */
  virtual bool quiet(bool still) = 0;

 protected:
  ~HostClient() = default;
};

class Host {
 public:
  /**
   * The host deletes itself once its handles are closed, by close() or by the end of its environment, whichever comes first; the cell that is
   * returned then holds null.
   */
  static std::shared_ptr<Host*> create(napi_env env, std::shared_ptr<Turn> turn, HostClient* client);

  /** Starts calling `dispatch` (a JavaScript function) once per batch. Returns 0 or -errno. */
  int start(napi_value receiver, napi_value dispatch);
  void stop();
  void ref();
  void unref();
  void close();

 private:
  Host(napi_env env, std::shared_ptr<Turn> turn, HostClient* client);
  ~Host() = default;
  static void on_check(uv_check_t* handle);
  static void on_cleanup(napi_async_cleanup_hook_handle hook, void* self);
  static void on_closed(uv_handle_t* handle);
  void turns();
  bool dispatch();
  void note_batch();
  void on_timer();
  void set_timer(double ms);
  void close_timer();
  void fail(int error);

  napi_env env_;
  std::shared_ptr<Turn> turn_;
  HostClient* client_;
  uv_loop_t* loop_ = nullptr;
  uv_check_t check_;
  uv_idle_t idle_;
  int open_handles_ = 0;
  bool running_ = false;
  Fd timer_;  // for the end of a busy time
  uv_poll_t* timer_poll_ = nullptr;  // libuv's, in the first busy time
  int batches_ = 0;  // since nothing happened for some time; no more are counted than make a busy time
  double last_batch_ms_ = 0;
  bool quiet_ = false;  // the client was told, and wants to be told once more
  std::shared_ptr<Host*> cell_;
  napi_ref receiver_ = nullptr;
  napi_ref dispatch_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
};

}  // namespace onewait
