#include "host.h"

#include <sys/timerfd.h>
#include <v8.h>

#include <cerrno>
#include <cmath>
#include <string>
#include <utility>

namespace onewait {
namespace {

// Batches in a row before libuv gets a turn even if it did not ask for one: the fairness budget of the host.
constexpr int kMaxTurns = 64;
// Fewer batches have not made enough garbage to wake up for.
constexpr int kBusyBatches = 100;
constexpr double kQuietMs = 5000;
// Long enough for a collection of some MiB: V8 passes over a request while it works on one.
constexpr double kStillMs = 2000;

}  // namespace

std::shared_ptr<Host*> Host::create(napi_env env, std::shared_ptr<Turn> turn, HostClient* client) {
  auto* host = new Host(env, std::move(turn), client);
  host->cell_ = std::make_shared<Host*>(host);
  return host->cell_;
}

Host::Host(napi_env env, std::shared_ptr<Turn> turn, HostClient* client) : env_(env), turn_(std::move(turn)), client_(client) {
  napi_get_uv_event_loop(env, &loop_);
  uv_check_init(loop_, &check_);
  uv_idle_init(loop_, &idle_);
  open_handles_ = 2;
  check_.data = idle_.data = this;
  // The handles would otherwise keep the process alive between runs.
  unref();
  napi_add_async_cleanup_hook(env, on_cleanup, this, &hook_);
}

int Host::start(napi_value receiver, napi_value dispatch) {
  if (running_) return 0;
  // uv_backend_fd is libuv's epoll descriptor: an epoll set can be polled like any other file (epoll(7), nesting).
  if (const int result = turn_->watch_host(uv_backend_fd(loop_)); result < 0) return result;
  napi_create_reference(env_, receiver, 1, &receiver_);
  napi_create_reference(env_, dispatch, 1, &dispatch_);
  // From the start, so that descriptors can be counted. Without it nothing is given back in silence.
  timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  uv_check_start(&check_, on_check);
  uv_idle_start(&idle_, [](uv_idle_t*) {});
  running_ = true;
  return 0;
}

void Host::stop() {
  if (!running_) return;
  running_ = false;
  uv_check_stop(&check_);
  uv_idle_stop(&idle_);
  turn_->unwatch_host();
  close_timer();
  napi_delete_reference(env_, std::exchange(receiver_, nullptr));
  napi_delete_reference(env_, std::exchange(dispatch_, nullptr));
}

void Host::ref() {
  uv_ref(reinterpret_cast<uv_handle_t*>(&check_));
}

void Host::unref() {
  uv_unref(reinterpret_cast<uv_handle_t*>(&check_));
  uv_unref(reinterpret_cast<uv_handle_t*>(&idle_));
}

void Host::close() {
  if (*cell_ == nullptr) return;
  *cell_ = nullptr;
  stop();
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), on_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), on_closed);
}

void Host::on_cleanup(napi_async_cleanup_hook_handle, void* self) { static_cast<Host*>(self)->close(); }

void Host::on_closed(uv_handle_t* handle) {
  Host* self = static_cast<Host*>(handle->data);
  if (--self->open_handles_ > 0) return;
  napi_remove_async_cleanup_hook(self->hook_);
  delete self;
}

void Host::on_check(uv_check_t* handle) {
  Host* self = static_cast<Host*>(handle->data);
  uv_idle_stop(&self->idle_);  // while it is active libuv would say that its own timeout is 0
  self->turns();
  if (self->running_) uv_idle_start(&self->idle_, [](uv_idle_t*) {});
}

void Host::turns() {
  v8::Isolate* const isolate = v8::Isolate::GetCurrent();
  for (int i = 0; i < kMaxTurns && running_; ++i) {
    // 0 also when libuv has descriptors to register, handles to close, immediates to run, or was told to stop.
    const int host_timeout_ms = uv_backend_timeout(loop_);
    // napi_open_handle_scope would allocate one on the heap for each turn.
    v8::HandleScope scope(isolate);
    client_->before_wait();
    const int64_t limit_ns = host_timeout_ms < 0 ? Poller::kForever : static_cast<int64_t>(host_timeout_ms) * 1'000'000;
    const int completions = turn_->run(limit_ns);
    const bool work = completions > 0 || turn_->shared()->head.unwritten > 0 || turn_->starved() || turn_->shared()->head.runnable != 0 || turn_->deadline_due();
    if (work) note_batch();
    const bool healthy = !work || dispatch();
    if (completions < 0 && completions != -EINTR) fail(completions);
    if (!healthy || completions < 0 || turn_->host_ready()) return;
    // libuv's clock matters to a timer of its own only.
    if (uv_backend_timeout(loop_) > 0) uv_update_time(loop_);
    if (uv_backend_timeout(loop_) == 0) return;
  }
}

/** Counts a batch. With enough of them it has been a busy time, whose end is waited for. */
void Host::note_batch() {
  last_batch_ms_ = turn_->shared()->head.now;
  if (batches_ == kBusyBatches || ++batches_ < kBusyBatches) return;
  if (timer_poll_ == nullptr) {
    auto poll = std::make_unique<uv_poll_t>();
    if (timer_.get() < 0 || uv_poll_init(loop_, poll.get(), timer_.get()) < 0) return;
    timer_poll_ = poll.release();
    uv_unref(reinterpret_cast<uv_handle_t*>(timer_poll_));
    timer_poll_->data = this;
    uv_poll_start(timer_poll_, UV_READABLE, [](uv_poll_t* handle, int, int) { static_cast<Host*>(handle->data)->on_timer(); });
  }
  quiet_ = false;
  set_timer(kQuietMs);
}

/** It may have been quiet for long enough; else it will be, at the earliest, when the time since the last batch is. */
void Host::on_timer() {
  uint64_t expirations;
  if (::read(timer_.get(), &expirations, sizeof expirations) < 0) return;
  const double left_ms = kQuietMs - (turn_->now_ms() - last_batch_ms_);
  if (left_ms > 0) {
    // After a collection that has been disturbed, the next busy time is waited for.
    if (!std::exchange(quiet_, false)) set_timer(left_ms);
    return;
  }
  batches_ = 0;
  v8::HandleScope scope(v8::Isolate::GetCurrent());
  quiet_ = client_->quiet(quiet_) && !quiet_;
  if (quiet_) set_timer(kStillMs);
}

void Host::set_timer(double ms) {
  const itimerspec due{{}, to_timespec(static_cast<int64_t>(std::ceil(ms * 1e6)))};
  timerfd_settime(timer_.get(), 0, &due, nullptr);
}

void Host::close_timer() {
  batches_ = 0;
  quiet_ = false;
  if (timer_poll_ != nullptr) {
    // libuv closes handles in its own time, but looks at the descriptor no more.
    uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(timer_poll_, nullptr)), [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
  }
  timer_.reset();
}

/** The wait itself has failed, and will again. */
void Host::fail(int error) {
  if (!running_) return;
  stop();
  const std::string what = std::string("onewait cannot wait any more: ") + uv_err_name(error) + ", " + uv_strerror(error) +
                           ". Something closed the loop's own descriptor, or the limits of the process are too low for what it watches";
  napi_value message;
  napi_value code;
  napi_value exception;
  napi_value number;
  napi_create_string_utf8(env_, what.c_str(), what.size(), &message);
  napi_create_string_utf8(env_, uv_err_name(error), NAPI_AUTO_LENGTH, &code);
  napi_create_error(env_, code, message, &exception);
  napi_create_int32(env_, error, &number);
  napi_set_named_property(env_, exception, "errno", number);
  napi_fatal_exception(env_, exception);
}

/** Runs one batch in JavaScript. False when an exception escaped it, or when JavaScript cannot run any more (terminate). */
bool Host::dispatch() {
  napi_value receiver;
  napi_value function;
  napi_value result;
  napi_get_reference_value(env_, receiver_, &receiver);
  napi_get_reference_value(env_, dispatch_, &function);
  const napi_status status = napi_make_callback(env_, nullptr, receiver, function, 0, nullptr, &result);
  if (status == napi_ok) return true;
  napi_value error;
  bool pending = false;
  if (napi_is_exception_pending(env_, &pending) == napi_ok && pending && napi_get_and_clear_last_exception(env_, &error) == napi_ok) {
    napi_fatal_exception(env_, error);
  }
  return false;
}

}  // namespace onewait
