#include "watchdog.h"

#include <limits.h>
#include <node_version.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>

#include "syscalls.h"
#include "thread.h"

namespace onewait {
namespace {

constexpr int kFrames = 10;
/** JavaScript that runs is interrupted at its next call or turn of a loop; after this long it is something else that does not come back. */
constexpr uint64_t kPatienceNs = 200'000'000;
/** While the loop is held up it is looked at as often, for its end to be told in time. */
constexpr uint64_t kLookEveryNs = 20'000'000;

std::string duration(uint64_t ns) {
  char text[32];
  if (ns < 1'000'000'000) std::snprintf(text, sizeof text, "%.0f ms", static_cast<double>(ns) / 1e6);
  else std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ns) / 1e9);
  return text;
}

/**
 * On standard error, if that takes it at once: a reader who has stopped reading must not stop the program. A pipe that is writable has room for PIPE_BUF
 * bytes (pipe(7)).
 */
void say(const std::string& what) {
  const std::string line = "onewait: " + what + "\n";
  pollfd output{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&output, 1, 0) == 1 && (output.revents & POLLOUT)) (void)!::write(STDERR_FILENO, line.data(), std::min<size_t>(line.size(), PIPE_BUF));
}

std::string text_of(v8::Isolate* isolate, v8::Local<v8::Value> value) {
  // Of anything else V8 would ask for its toString.
  if (value.IsEmpty() || !value->IsString()) return {};
  const v8::String::Utf8Value text(isolate, value);
  return {*text, static_cast<size_t>(text.length())};
}

v8::Local<v8::Value> property(v8::Isolate* isolate, v8::Local<v8::Object> object, const char* name) {
  v8::Local<v8::String> key;
  v8::Local<v8::Value> value;
  if (v8::String::NewFromUtf8(isolate, name, v8::NewStringType::kInternalized).ToLocal(&key) &&
      object->Get(isolate->GetCurrentContext(), key).ToLocal(&value))
    return value;
  return v8::Undefined(isolate);
}

/** The task whose async function runs, or what else is there. */
v8::Local<v8::Value> task_in_async_context(v8::Isolate* isolate, [[maybe_unused]] v8::Local<v8::Context> context, v8::Local<v8::Object> identity) {
#if NODE_MAJOR_VERSION >= 24
  const v8::Local<v8::Value> frame = isolate->GetContinuationPreservedEmbedderData();
  if (!frame->IsMap()) return v8::Undefined(isolate);
  const v8::Local<v8::Array> entries = frame.As<v8::Map>()->AsArray();
  for (uint32_t i = 0; i + 1 < entries->Length(); i += 2) {
    v8::Local<v8::Value> key, value;
    if (entries->Get(context, i).ToLocal(&key) && key->StrictEquals(identity) && entries->Get(context, i + 1).ToLocal(&value)) return value;
  }
  return v8::Undefined(isolate);
#else
#if V8_MAJOR_VERSION >= 12
  const v8::Local<v8::Value> value = isolate->GetContinuationPreservedEmbedderData();
#else
  // Not that of a vm context, which code that runs may be in.
  const v8::Local<v8::Value> value = context->GetContinuationPreservedEmbedderData();
#endif
  const bool is_task = value->IsObject() && !value->IsProxy() && value.As<v8::Object>()->GetPrototype()->StrictEquals(identity);
  return is_task ? value : v8::Undefined(isolate).As<v8::Value>();
#endif
}

std::string stack_of(v8::Isolate* isolate) {
  std::string text;
  const v8::Local<v8::StackTrace> stack = v8::StackTrace::CurrentStackTrace(isolate, kFrames, v8::StackTrace::kDetailed);
  for (int i = 0; i < stack->GetFrameCount(); ++i) {
    const v8::Local<v8::StackFrame> frame = stack->GetFrame(isolate, static_cast<uint32_t>(i));
    const std::string function = text_of(isolate, frame->GetFunctionName());
    const std::string place = text_of(isolate, frame->GetScriptNameOrSourceURL()) + ":" + std::to_string(frame->GetLineNumber()) + ":" + std::to_string(frame->GetColumn());
    text += function.empty() ? "\n    at " + place : "\n    at " + function + " (" + place + ")";
  }
  return text;
}

}  // namespace

struct Watchdog::Watch {
  v8::Isolate* isolate;
  PulseRef pulse;
  uint64_t limit_ns;
  v8::Global<v8::Context> context;
  v8::Global<v8::Object> running;
  v8::Global<v8::Object> identity;
  bool over = false;                   // known in JavaScript's thread only
  std::atomic<uint64_t> answered = 0;  // the pulse of which an interrupt has told

  /** 'echo#3', or what else it is that runs. */
  std::string who() const {
    v8::Local<v8::Value> task = property(isolate, running.Get(isolate), "task");
    if (!task->IsObject()) task = task_in_async_context(isolate, context.Get(isolate), identity.Get(isolate));
    if (!task->IsObject()) return "code that is no coroutine";
    const v8::Local<v8::Value> id = property(isolate, task.As<v8::Object>(), "id");
    // Task 0 stands for Node's own code.
    if (!id->IsUint32() || id.As<v8::Uint32>()->Value() == 0) return "code that is no coroutine";
    return text_of(isolate, property(isolate, task.As<v8::Object>(), "name")) + "#" + std::to_string(id.As<v8::Uint32>()->Value());
  }
};

std::unique_ptr<Watchdog> Watchdog::start(PulseRef pulse, uint64_t limit_ns, v8::Local<v8::Object> running, v8::Local<v8::Object> identity, int* error) {
  v8::Isolate* const isolate = v8::Isolate::GetCurrent();
  auto watch = std::make_shared<Watch>();
  watch->isolate = isolate;
  watch->pulse = std::move(pulse);
  watch->limit_ns = limit_ns;
  watch->context.Reset(isolate, isolate->GetCurrentContext());
  watch->running.Reset(isolate, running);
  watch->identity.Reset(isolate, identity);
  std::unique_ptr<Watchdog> watchdog(new Watchdog(std::move(watch)));
  *error = start_thread(&watchdog->thread_, run, watchdog.get());
  if (*error == 0) return watchdog;
  watchdog->stopping_ = true;
  return nullptr;
}

Watchdog::~Watchdog() {
  watch_->over = true;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;  // it never ran
    stopping_ = true;
  }
  wake_.notify_one();
  pthread_join(thread_, nullptr);
}

void* Watchdog::run(void* self) {
  static_cast<Watchdog*>(self)->look();
  return nullptr;
}

void Watchdog::look() {
  Watch& watch = *watch_;
  uint64_t held = 0;  // the pulse since which the loop is held up, if it is
  uint64_t asked_ns = 0;
  bool gone = false;  // what holds it up does not come back to JavaScript
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const uint64_t now = monotonic_ns();
    const uint64_t pulse = watch.pulse->returned_ns.load(std::memory_order_relaxed);
    if (held != 0 && pulse != held) {
      // Not of what was over before the interrupt came, which was said by nobody.
      if (gone || watch.answered.load() == held) tell(lock, "the loop goes on after " + duration(now - held));
      held = 0;
    }
    if (held == 0 && pulse != 0 && now >= pulse + watch.limit_ns) {
      held = pulse;
      asked_ns = now;
      gone = false;
      // An interrupt that comes too late, or never, keeps what it needs.
      watch.isolate->RequestInterrupt(on_interrupt, new std::shared_ptr<Watch>(watch_));
    }
    if (held != 0 && !gone && now >= asked_ns + kPatienceNs && watch.answered.load() != held) {
      gone = true;
      tell(lock, "the loop has been held up for " + duration(now - held) +
                     " by a call that has not come back to JavaScript: a system call that blocks, as those of fs.*Sync and execSync do, or native code. "
                     "Who made it is said when it has");
    }
    const uint64_t next = held != 0 ? kLookEveryNs : pulse == 0 ? watch.limit_ns : pulse + watch.limit_ns - now;
    wake_.wait_for(lock, std::chrono::nanoseconds(next), [this] { return stopping_; });
  }
}

/** Nobody who waits for the lock, to end the watchdog, must wait for standard error. */
void Watchdog::tell(std::unique_lock<std::mutex>& lock, const std::string& what) {
  lock.unlock();
  say(what);
  lock.lock();
}

void Watchdog::on_interrupt(v8::Isolate* isolate, void* data) {
  const std::unique_ptr<std::shared_ptr<Watch>> keeper(static_cast<std::shared_ptr<Watch>*>(data));
  Watch& watch = **keeper;
  const uint64_t pulse = watch.pulse->returned_ns.load(std::memory_order_relaxed);
  const uint64_t now = monotonic_ns();
  if (watch.over || pulse == 0 || now < pulse + watch.limit_ns || !isolate->InContext()) return;
  watch.answered.store(pulse);
  const v8::HandleScope scope(isolate);
  const std::string stack = stack_of(isolate);
  say(watch.who() + " has held up the loop for " + duration(now - pulse) + ", and nobody else goes on meanwhile" + (stack.empty() ? "" : ". It is" + stack));
}

}  // namespace onewait
