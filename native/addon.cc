// The addon's exports: argument checks, and state per environment, so that every worker thread has its own. No statics.
//
// JavaScript sees three classes, Poller, Turn and BlockingThreads, and a handful of functions. Results are numbers: a value, or a negative errno.
// src/native.ts gives them types and is the only module that calls them.
#include <fcntl.h>
#include <napi.h>
#include <sys/socket.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "args.h"
#include "async_context.h"
#include "bare_function.h"
#include "blocking_threads.h"
#include "host.h"
#include "memory_pool.h"
#include "poller.h"
#include "quiet.h"
#include "sockets.h"
#include "syscalls.h"
#include "trace.h"
#include "turn.h"
#include "watchdog.h"

namespace onewait {
namespace {

// napi_type_tag: unwrapping an object of another class would be a type confusion, and instanceof can be forged.
constexpr napi_type_tag kPollerTag = {0x6f6e65776169744aULL, 0x706f6c6c65720001ULL};

struct Environment {
  TraceSlotRef slot = std::make_shared<TraceSlot>();
  std::unique_ptr<Trace> trace;
  PulseRef pulse = std::make_shared<Pulse>();
  std::unique_ptr<Watchdog> watchdog;
  // V8 collects when young ArrayBuffers hold 32 MiB, and what it finds unused comes back a little later.
  std::shared_ptr<MemoryPool> pages = std::make_shared<MemoryPool>(32 * 1024, 48 * 1024 * 1024);
  std::shared_ptr<LazyCallRing> ring = std::make_shared<LazyCallRing>();
  std::shared_ptr<MemoryPool> slabs = std::make_shared<MemoryPool>(512 * 1024, 48 * 1024 * 1024);
  /** By number: the descriptors that were opened here and not closed. A worker that is terminated runs no JavaScript that could. */
  std::vector<bool> owned;

  /** Gives the kernel the memory for reads that is not in use. How much there is left. */
  size_t trim() { return pages->trim() + slabs->trim(); }

  void end_trace() {
    slot->active = nullptr;
    trace.reset();
  }

  /** `result` is a new descriptor, or -errno. */
  int64_t own(int64_t result) {
    if (result < 0) return result;
    if (static_cast<size_t>(result) >= owned.size()) owned.resize(static_cast<size_t>(result) + 1);
    owned[static_cast<size_t>(result)] = true;
    return result;
  }
  void disown(int fd) {
    if (static_cast<size_t>(fd) < owned.size()) owned[static_cast<size_t>(fd)] = false;
  }

  void end() {
    watchdog.reset();
    end_trace();
    for (size_t fd = 0; fd < owned.size(); ++fd) {
      if (owned[fd]) ::close(static_cast<int>(fd));
    }
    owned.clear();
  }
};

Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }
Trace* trace_of(Napi::Env env) { return environment(env).slot->active; }
Napi::Value number(Napi::Env env, double value) { return Napi::Number::New(env, value); }
Napi::Value opened(Napi::Env env, int64_t result) { return number(env, static_cast<double>(environment(env).own(result))); }

/** Milliseconds to nanoseconds, rounded up so that a wait never ends early; negative or infinite: forever. */
int64_t to_timeout_ns(double ms) {
  if (ms < 0 || std::isinf(ms)) return Poller::kForever;
  return static_cast<int64_t>(std::ceil(std::min(ms, 1e12) * 1e6));
}

class PollerWrap : public Napi::ObjectWrap<PollerWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Poller",
                       {InstanceMethod<&PollerWrap::add>("add"), InstanceMethod<&PollerWrap::modify>("modify"),
                        InstanceMethod<&PollerWrap::remove>("remove"), InstanceMethod<&PollerWrap::wait>("wait"),
                        InstanceMethod<&PollerWrap::fileno>("fileno"), InstanceMethod<&PollerWrap::close>("close")});
  }

  explicit PollerWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    const std::string kind = args.string(0, "kind");
    if (!args.ok()) return;
    const TraceSlotRef& slot = environment(info.Env()).slot;
    int error = 0;
    if (kind == "epoll") poller_ = make_epoll_poller(slot, &error);
    else if (kind == "poll") poller_ = make_poll_poller(slot);
    else if (kind == "select") poller_ = make_select_poller(slot);
    else Napi::RangeError::New(info.Env(), "The poller must be 'epoll', 'poll' or 'select'").ThrowAsJavaScriptException();
    error_ = error;
    napi_type_tag_object(info.Env(), info.This(), &kPollerTag);
  }

  const std::shared_ptr<Poller>& poller() const { return poller_; }

 private:
  // A poller that is closed, or was never made, answers as the kernel would: EBADF, or what epoll_create1 said.
  int missing() const { return error_ < 0 ? error_ : -EBADF; }

  Napi::Value add(const Napi::CallbackInfo& info) {
    Args args(info);
    const int fd = args.fd(0);
    const uint32_t events = args.interest(1);
    const int generation = args.integer(2, "generation", 1);
    if (!args.ok()) return {};
    return number(info.Env(), poller_ ? poller_->add(fd, events, static_cast<uint32_t>(generation)) : missing());
  }

  Napi::Value modify(const Napi::CallbackInfo& info) {
    Args args(info);
    const int fd = args.fd(0);
    const uint32_t events = args.interest(1);
    if (!args.ok()) return {};
    return number(info.Env(), poller_ ? poller_->modify(fd, events) : missing());
  }

  Napi::Value remove(const Napi::CallbackInfo& info) {
    Args args(info);
    const int fd = args.fd(0);
    if (!args.ok()) return {};
    return number(info.Env(), poller_ ? poller_->remove(fd) : missing());
  }

  /** wait(timeoutMs): an Int32Array of (fd, generation, events), or -errno. Resumed after EINTR with what is left of the timeout. */
  Napi::Value wait(const Napi::CallbackInfo& info) {
    Args args(info);
    const double ms = args.number(0, "timeoutMs", -1, std::numeric_limits<double>::infinity());
    if (!args.ok()) return {};
    if (!poller_) return number(info.Env(), missing());
    int64_t timeout_ns = to_timeout_ns(ms);
    if (Trace* trace = trace_of(info.Env()); trace && timeout_ns != 0) trace->hand_over();
    const uint64_t start = monotonic_ns();
    std::vector<Ready> ready;
    int result;
    int64_t left = timeout_ns;
    while ((result = poller_->wait(left, Poller::kMaxReady, ready)) == -EINTR) {
      if (timeout_ns < 0) continue;
      left = std::max<int64_t>(0, timeout_ns - static_cast<int64_t>(monotonic_ns() - start));
    }
    if (result < 0) return number(info.Env(), result);
    Napi::Int32Array events = Napi::Int32Array::New(info.Env(), ready.size() * 3);
    for (size_t i = 0; i < ready.size(); ++i) {
      events[i * 3] = ready[i].fd;
      events[i * 3 + 1] = static_cast<int32_t>(ready[i].generation);
      events[i * 3 + 2] = static_cast<int32_t>(ready[i].events & (kRead | kWrite));
    }
    return events;
  }

  Napi::Value fileno(const Napi::CallbackInfo& info) { return number(info.Env(), poller_ ? poller_->fileno() : missing()); }

  Napi::Value close(const Napi::CallbackInfo& info) {
    // A turn may hold it until it is collected; its descriptor must not wait for that.
    if (poller_) poller_->close();
    poller_.reset();
    return info.Env().Undefined();
  }

  std::shared_ptr<Poller> poller_;
  int error_ = 0;
};

class TurnWrap : public Napi::ObjectWrap<TurnWrap>, private HostClient {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Turn",
                       {InstanceMethod<&TurnWrap::shared>("shared"), InstanceMethod<&TurnWrap::set_areas>("setAreas"),
                        InstanceMethod<&TurnWrap::flush>("flush"), InstanceMethod<&TurnWrap::send>("send"),
                        InstanceMethod<&TurnWrap::run>("run"), InstanceMethod<&TurnWrap::now>("now"), InstanceMethod<&TurnWrap::forget>("forget"),
                        InstanceMethod<&TurnWrap::start>("start"), InstanceMethod<&TurnWrap::stop>("stop"),
                        InstanceMethod<&TurnWrap::ref>("ref"), InstanceMethod<&TurnWrap::unref>("unref")});
  }

  explicit TurnWrap(const Napi::CallbackInfo& info) : ObjectWrap(info), env_(info.Env()) {
    bool is_poller = false;
    if (info[0].IsObject()) napi_check_object_type_tag(env_, info[0], &kPollerTag, &is_poller);
    PollerWrap* wrap = is_poller ? PollerWrap::Unwrap(info[0].As<Napi::Object>()) : nullptr;
    if (wrap == nullptr || !wrap->poller()) {
      Napi::TypeError::New(env_, "The argument \"poller\" must be an open Poller").ThrowAsJavaScriptException();
      return;
    }
    Args args(info);
    poller_ = wrap->poller();
    turn_ = std::make_shared<Turn>(poller_.get(), environment(env_).slot, environment(env_).pulse, args.boolean(1) ? environment(env_).ring : nullptr);
  }

  ~TurnWrap() override {
    if (host_ && *host_) (*host_)->close();
  }

 private:
  /** The memory shared with the turn; src/driver.ts knows its layout. Native owns it, so that no transfer can pull it away. */
  Napi::Value shared(const Napi::CallbackInfo& info) {
    auto* keeper = new std::shared_ptr<Turn::Shared>(turn_->shared());
    return Napi::ArrayBuffer::New(
        env_, keeper->get(), sizeof(Turn::Shared), [](Napi::Env, void*, std::shared_ptr<Turn::Shared>* held) { delete held; }, keeper);
  }

  /** setAreas(page, slab): ArrayBuffers that reads land in, from now on. Their cursors go back to 0. */
  Napi::Value set_areas(const Napi::CallbackInfo& info) {
    Args args(info);
    const Napi::ArrayBuffer page = args.array_buffer(0, "page");
    const Napi::ArrayBuffer slab = args.array_buffer(1, "slab");
    if (!args.ok()) return {};
    page_.Reset(page, 1);
    slab_.Reset(slab, 1);
    return info.Env().Undefined();
  }

  Napi::Value flush(const Napi::CallbackInfo& info) { return number(info.Env(), turn_->flush()); }

  /** send(buffers): a write for each, on the descriptor that the shared memory names. Nothing is kept. */
  Napi::Value send(const Napi::CallbackInfo& info) {
    Args args(info);
    const std::span<const Turn::Area> data = args.byte_arrays(0, Turn::kSends, send_areas_);
    if (args.ok()) turn_->send(data);
    return info.Env().Undefined();
  }

  /** run(): one blocking turn, without libuv. The number of completions, or -errno. */
  Napi::Value run(const Napi::CallbackInfo& info) {
    before_wait();
    return number(info.Env(), turn_->run(Poller::kForever));
  }

  Napi::Value now(const Napi::CallbackInfo& info) { return number(info.Env(), turn_->now_ms()); }

  Napi::Value forget(const Napi::CallbackInfo& info) {
    Args args(info);
    const int fd = args.fd(0);
    if (args.ok()) turn_->forget(fd);
    return info.Env().Undefined();
  }

  /** start(dispatch): hosted by libuv from now on; dispatch() is called once per batch. */
  Napi::Value start(const Napi::CallbackInfo& info) {
    Args args(info);
    const Napi::Function dispatch = args.function(0, "dispatch");
    if (!args.ok()) return {};
    if (!host_ || !*host_) host_ = Host::create(env_, turn_, this);
    return number(env_, (*host_)->start(info.This(), dispatch));
  }

  Napi::Value stop(const Napi::CallbackInfo& info) {
    if (host_ && *host_) (*host_)->stop();
    environment(env_).trim();
    return info.Env().Undefined();
  }

  Napi::Value ref(const Napi::CallbackInfo& info) {
    if (host_ && *host_) (*host_)->ref();
    return info.Env().Undefined();
  }

  Napi::Value unref(const Napi::CallbackInfo& info) {
    if (host_ && *host_) (*host_)->unref();
    return info.Env().Undefined();
  }

  /** Pointers are fetched per turn and never kept across JavaScript: a page can be detached by whoever holds a chunk of it. */
  void before_wait() override { turn_->set_areas(area(env_, page_), area(env_, slab_)); }

  bool quiet(bool still) override {
    v8::Isolate* const isolate = v8::Isolate::GetCurrent();
    const size_t read_memory = environment(env_).trim();
    if (!still && !worth_collecting(isolate, read_memory, poller_->size())) return false;
    collect(isolate);
    return true;
  }

  static Turn::Area area(napi_env env, const Napi::Reference<Napi::ArrayBuffer>& reference) {
    napi_value buffer = nullptr;
    void* data = nullptr;
    size_t length = 0;
    if (reference.IsEmpty() || napi_get_reference_value(env, reference, &buffer) != napi_ok || buffer == nullptr) return {};
    if (napi_get_arraybuffer_info(env, buffer, &data, &length) != napi_ok) return {};
    return {static_cast<uint8_t*>(data), length};
  }

  Napi::Env env_;
  std::shared_ptr<Poller> poller_;
  std::shared_ptr<Turn> turn_;
  std::shared_ptr<Host*> host_;
  Napi::Reference<Napi::ArrayBuffer> page_;
  Napi::Reference<Napi::ArrayBuffer> slab_;
  std::vector<Turn::Area> send_areas_;
};

Napi::Value to_object(Napi::Env env, const SocketAddress& address) {
  const Address formatted = address.format();
  Napi::Object object = Napi::Object::New(env);
  object.Set("address", formatted.host);
  object.Set("family", formatted.family);
  object.Set("port", formatted.port);
  return object;
}

std::optional<SocketAddress> address_argument(Args& args, Napi::Env env) {
  const std::string host = args.c_string(0, "host");
  const int port = args.integer(1, "port", 0, 65535);
  SocketAddress address;
  if (!args.ok()) return std::nullopt;
  if (address.parse(host, port)) return address;
  Napi::TypeError::New(env, "The argument \"host\" must be a numeric IPv4 or IPv6 address here; resolve names first").ThrowAsJavaScriptException();
  return std::nullopt;
}

Napi::Value listen(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto address = address_argument(args, info.Env());
  if (!address) return {};
  const int backlog = args.integer(2, "backlog");
  if (!args.ok()) return {};
  return opened(info.Env(), tcp_listen(trace_of(info.Env()), *address, backlog, args.boolean(3)));
}

Napi::Value connect(const Napi::CallbackInfo& info) {
  Args args(info);
  const auto address = address_argument(args, info.Env());
  if (!address) return {};
  return opened(info.Env(), tcp_connect(trace_of(info.Env()), *address));
}

Napi::Value accept(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (!args.ok()) return {};
  SocketAddress peer;
  return opened(info.Env(), tcp_accept(trace_of(info.Env()), fd, &peer));
}

/** Runs `call` on an fd and a piece of memory, retried after EINTR. */
template <typename Call>
Napi::Value transfer(const Napi::CallbackInfo& info, Syscall name, Call call) {
  Args args(info);
  const int fd = args.fd(0);
  const Turn::Area area = args.bytes(1);
  if (!args.ok()) return {};
  Trace* trace = trace_of(info.Env());
  const double start = trace ? trace->now() : 0;
  int64_t result;
  do {
    result = call(fd, area.data, area.length);
  } while (result == -EINTR);
  if (trace) {
    trace->payload(area.data, result);
    trace->syscall(start, name, fd, static_cast<int64_t>(area.length), result);
  }
  return number(info.Env(), static_cast<double>(result));
}

Napi::Value recv(const Napi::CallbackInfo& info) {
  return transfer(info, Syscall::kRecv, receive);
}

Napi::Value send(const Napi::CallbackInfo& info) {
  return transfer(info, Syscall::kSend, transmit);
}

/** Threads that block in system calls; src/article/exchange-threads.ts is what they are for. */
class ThreadsWrap : public Napi::ObjectWrap<ThreadsWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "BlockingThreads",
                       {InstanceMethod<&ThreadsWrap::fd>("fd"), InstanceMethod<&ThreadsWrap::call>("call"), InstanceMethod<&ThreadsWrap::take>("take")});
  }

  explicit ThreadsWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    Args args(info);
    const int count = args.integer(0, "threads", 1, 4096);
    const int patience_ms = args.integer(1, "patienceMs", 1, 3'600'000);
    if (args.ok()) threads_ = std::make_unique<BlockingThreads>(count, patience_ms);
  }

 private:
  /** fd(): readable while finished calls can be taken; or -errno when not all threads could be started. */
  Napi::Value fd(const Napi::CallbackInfo& info) {
    return number(info.Env(), threads_->error() < 0 ? threads_->error() : threads_->fd());
  }

  /** call(host, port, id, fd, request, offset, length): connects if fd is -1, sends and receives, on a thread. */
  Napi::Value call(const Napi::CallbackInfo& info) {
    Args args(info);
    const auto address = address_argument(args, info.Env());
    if (!address) return {};
    const int id = args.integer(2, "id");
    const int fd = args.integer(3, "fd", -1);
    const Turn::Area request = args.bytes(4);
    if (!args.ok()) return {};
    threads_->submit({static_cast<uint32_t>(id), fd, *address, {request.data, request.data + request.length}, {}, 0});
    return info.Env().Undefined();
  }

  /** take(): finished calls, as arrays of id, fd (-1: there is none), result and bytes. */
  Napi::Value take(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    const std::vector<BlockingCall> calls = threads_->take();
    Napi::Array finished = Napi::Array::New(env, calls.size());
    for (uint32_t i = 0; i < calls.size(); ++i) {
      const BlockingCall& call = calls[i];
      Napi::Array fields = Napi::Array::New(env, 4);
      fields.Set(0u, number(env, call.id));
      fields.Set(1u, number(env, static_cast<double>(call.fd < 0 ? call.fd : environment(env).own(call.fd))));
      fields.Set(2u, number(env, static_cast<double>(call.result)));
      fields.Set(3u, Napi::Buffer<uint8_t>::Copy(env, call.response.data(), call.response.size()));
      finished.Set(i, fields);
    }
    return finished;
  }

  std::unique_ptr<BlockingThreads> threads_;
};

/** read(2): for what is no socket, a terminal or a pipe. */
Napi::Value read(const Napi::CallbackInfo& info) {
  return transfer(info, Syscall::kRead, [](int fd, void* data, size_t length) { return outcome(::read(fd, data, length)); });
}

/** write(2). Node ignores SIGPIPE, so a reader that is gone is EPIPE. */
Napi::Value write(const Napi::CallbackInfo& info) {
  return transfer(info, Syscall::kWrite, [](int fd, const void* data, size_t length) { return outcome(::write(fd, data, length)); });
}

Napi::Value shutdown(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (!args.ok()) return {};
  Trace* trace = trace_of(info.Env());
  const double start = trace ? trace->now() : 0;
  const int64_t result = outcome(::shutdown(fd, SHUT_WR));
  if (trace) trace->syscall(start, Syscall::kShutdown, fd, SHUT_WR, result);
  return number(info.Env(), static_cast<double>(result));
}

Napi::Value close(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (!args.ok()) return {};
  Trace* trace = trace_of(info.Env());
  const double start = trace ? trace->now() : 0;
  environment(info.Env()).disown(fd);
  const int64_t result = outcome(::close(fd));
  if (trace) trace->syscall(start, Syscall::kClose, fd, 0, result);
  return number(info.Env(), static_cast<double>(result));
}

/** A descriptor in reserve: closing it makes room to accept, and so to shed, a connection when the table is full. */
Napi::Value open_spare(const Napi::CallbackInfo& info) {
  return opened(info.Env(), outcome(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
}

Napi::Value socket_error(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  return args.ok() ? number(info.Env(), onewait::socket_error(fd)) : Napi::Value();
}

/** socketName(fd, peer): { address, family, port }, or -errno. */
Napi::Value socket_name(const Napi::CallbackInfo& info) {
  Args args(info);
  const int fd = args.fd(0);
  if (!args.ok()) return {};
  SocketAddress address;
  const int result = onewait::socket_name(fd, args.boolean(1), &address);
  return result < 0 ? number(info.Env(), result) : to_object(info.Env(), address);
}

/** listenLocal(path, backlog, mode, borrowed): a descriptor, or -errno. One that is borrowed is Node's to close, and nothing that a trace tells of. */
Napi::Value listen_local(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.socket_path(0, "path");
  const int backlog = args.integer(1, "backlog");
  const auto mode = static_cast<mode_t>(args.integer(2, "mode", 0, 0777));
  const bool borrowed = args.boolean(3);
  if (!args.ok()) return {};
  SocketAddress address;
  if (!address.parse_local(path)) return number(info.Env(), path.empty() ? -ENOENT : -ENAMETOOLONG);
  if (borrowed) return number(info.Env(), local_listen(nullptr, address, backlog, mode));
  return opened(info.Env(), local_listen(trace_of(info.Env()), address, backlog, mode));
}

/** connectLocal(path): a descriptor, or -errno. */
Napi::Value connect_local(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.socket_path(0, "path");
  if (!args.ok()) return {};
  SocketAddress address;
  if (!address.parse_local(path)) return number(info.Env(), path.empty() ? -ENOENT : -ENAMETOOLONG);
  return opened(info.Env(), local_connect(trace_of(info.Env()), address));
}

/** traceOpen(path, records, flight, thread, payload): 0, or -errno. An empty path needs `flight`. */
Napi::Value trace_open(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.c_string(0, "path");
  TraceOptions options;
  options.ring_records = static_cast<size_t>(args.integer(1, "records", 1, 1 << 26));
  options.flight = args.boolean(2);
  options.thread = static_cast<uint32_t>(args.integer(3, "thread"));
  options.payload_bytes = static_cast<uint32_t>(args.integer(4, "payload", 0, Trace::kMaxPayload));
  if (!args.ok()) return {};
  Environment& environment = onewait::environment(info.Env());
  int error = 0;
  environment.end_trace();
  environment.trace = Trace::open(path.c_str(), options, &error);
  environment.slot->active = environment.trace.get();
  return number(info.Env(), error);
}

/** traceMemory(): what the ring shares with JavaScript; src/trace/ring.ts knows its layout. It outlives the trace. */
Napi::Value trace_memory(const Napi::CallbackInfo& info) {
  Trace* trace = trace_of(info.Env());
  if (trace == nullptr) return info.Env().Null();
  auto* keeper = new std::shared_ptr<uint8_t[]>(trace->memory());
  return Napi::ArrayBuffer::New(
      info.Env(), keeper->get(), trace->memory_bytes(), [](Napi::Env, void*, std::shared_ptr<uint8_t[]>* held) { delete held; }, keeper);
}

/** traceClose(): everything is in the file when it returns. How many records are missing there. */
Napi::Value trace_close(const Napi::CallbackInfo& info) {
  Environment& environment = onewait::environment(info.Env());
  const double lost = environment.trace ? static_cast<double>(environment.trace->finish()) : 0;
  environment.end_trace();
  return number(info.Env(), lost);
}

/** traceDump(path, keepOthers): writes what the flight recorder has. 0 or -errno. */
Napi::Value trace_dump(const Napi::CallbackInfo& info) {
  Args args(info);
  const std::string path = args.c_string(0, "path");
  const bool keep_others = args.boolean(1);
  if (!args.ok()) return {};
  Trace* trace = trace_of(info.Env());
  return number(info.Env(), trace == nullptr ? -EBADF : trace->dump(path.c_str(), keep_others));
}

/** traceRoom(): whether another record fits into the ring. */
Napi::Value trace_room(const Napi::CallbackInfo& info) {
  Trace* trace = trace_of(info.Env());
  return Napi::Boolean::New(info.Env(), trace != nullptr && trace->room());
}

/** traceText(what, task, fd, text) */
Napi::Value trace_text(const Napi::CallbackInfo& info) {
  Args args(info);
  const int what = args.integer(0, "what", 1, 255);
  const int task = args.integer(1, "task");
  const int fd = args.integer(2, "fd", -1);
  const std::string text = args.string(3, "text");
  if (Trace* trace = trace_of(info.Env()); trace && args.ok()) trace->text(static_cast<TextKind>(what), static_cast<uint32_t>(task), fd, text);
  return info.Env().Undefined();
}

/** traceTick(): reads the clock, into the ring's head, and lets the writer have what there is. Called for every step of a task. */
void trace_tick(const v8::FunctionCallbackInfo<v8::Value>& info) {
  if (Trace* trace = static_cast<TraceSlot*>(info.Data().As<v8::External>()->Value())->active) {
    trace->now();
    trace->publish();
  }
}

/** watch(ms, running, identity): a thread reports what holds up the loop for so long, from now on. 0, or -errno. */
Napi::Value watch(const Napi::CallbackInfo& info) {
  Args args(info);
  const double ms = args.number(0, "ms", 1, 1e12);
  const Napi::Object running = args.object(1, "running");
  const Napi::Object identity = args.object(2, "identity");
  if (!args.ok()) return {};
  Environment& environment = onewait::environment(info.Env());
  int error = 0;
  // What is to be watched begins now, whenever the last turn was.
  environment.pulse->returned_ns = monotonic_ns();
  auto watchdog = Watchdog::start(environment.pulse, static_cast<uint64_t>(ms * 1e6), to_v8(running).As<v8::Object>(),
                                  to_v8(identity).As<v8::Object>(), &error);
  if (watchdog) environment.watchdog = std::move(watchdog);
  return number(info.Env(), error);
}

Napi::Value unwatch(const Napi::CallbackInfo& info) {
  environment(info.Env()).watchdog.reset();
  return info.Env().Undefined();
}

/** isAwaited(promise): whether it has a handler already. JavaScript cannot know. */
void is_awaited(const v8::FunctionCallbackInfo<v8::Value>& info) {
  info.GetReturnValue().Set(info[0]->IsPromise() && info[0].As<v8::Promise>()->HasHandler());
}

/** takePage() and takeSlab(): an ArrayBuffer to read into, with anything in it; or undefined, when there are enough. */
template <std::shared_ptr<MemoryPool> Environment::* kPool>
void take_memory(const v8::FunctionCallbackInfo<v8::Value>& info) {
  using Keeper = std::shared_ptr<MemoryPool>;
  const Keeper& pool = static_cast<Environment*>(info.Data().As<v8::External>()->Value())->*kPool;
  uint8_t* block = pool->take();
  if (block == nullptr) return;
  const auto give_back = [](void* data, size_t, void* keeper) {
    (*static_cast<Keeper*>(keeper))->give_back(static_cast<uint8_t*>(data));
    delete static_cast<Keeper*>(keeper);
  };
  info.GetReturnValue().Set(
      v8::ArrayBuffer::New(info.GetIsolate(), v8::ArrayBuffer::NewBackingStore(block, pool->block_bytes(), give_back, new Keeper(pool))));
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* data = new Environment();
  env.SetInstanceData(data);
  // The trace reaches the disk also when the program ends by process.exit or a worker is terminated, and its peers learn that it is gone.
  env.AddCleanupHook([data] { data->end(); });
  exports.Set("Poller", PollerWrap::define(env));
  exports.Set("Turn", TurnWrap::define(env));
  exports.Set("BlockingThreads", ThreadsWrap::define(env));
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"listen", listen}, {"connect", connect}, {"accept", accept}, {"recv", recv}, {"send", send}, {"read", read}, {"write", write},
      {"shutdown", shutdown}, {"close", close},
      {"openSpare", open_spare}, {"socketError", socket_error}, {"socketName", socket_name}, {"listenLocal", listen_local}, {"connectLocal", connect_local}, {"traceOpen", trace_open},
      {"traceMemory", trace_memory}, {"traceClose", trace_close}, {"traceDump", trace_dump}, {"traceRoom", trace_room}, {"traceText", trace_text}, {"watch", watch}, {"unwatch", unwatch},
  };
  for (const auto& [name, function] : functions) exports.Set(name, Napi::Function::New(env, function, name));
  export_bare(env, exports, "traceTick", trace_tick, data->slot.get());
  export_bare(env, exports, "takePage", take_memory<&Environment::pages>, data);
  export_bare(env, exports, "takeSlab", take_memory<&Environment::slabs>, data);
  export_bare(env, exports, "isAwaited", is_awaited);
  export_async_context(env, exports);
  return exports;
}

}  // namespace
}  // namespace onewait

static Napi::Object init_onewait(Napi::Env env, Napi::Object exports) { return onewait::initialize(env, exports); }

NODE_API_MODULE(onewait, init_onewait)
