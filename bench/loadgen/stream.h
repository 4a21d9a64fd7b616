// A TCP connection as two streams of bytes, and the wire that moves them: what is queued is sent as far as the kernel takes it,
// what is received is verified before anybody hears of it. Nothing here waits, and nothing knows of messages in flight.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

#include "clock.h"
#include "script.h"
#include "target.h"

struct Stream {
  enum class State : uint8_t { kUnused, kConnecting, kFirstEcho, kOpen, kFailed };

  int fd = -1;
  State state = State::kUnused;
  bool blocked = false;  // the kernel has not taken all that was offered
  uint64_t sent = 0;     // positions, in bytes
  uint64_t queued = 0;   // what has been or may be sent
  uint64_t received = 0;
};

enum class Io : uint8_t { kNothing, kSome, kMore, kEnded };

class Wire {
 public:
  /** `name` is what a connection is called in messages; `first` the number of the one in place 0. */
  Wire(const Script& script, const char* name, size_t first)
      : script(script), name_(name), first_(first), buffer_(kReceiveBytes) {}

  /** False if the connection has ended; `reason()` says why. */
  bool send(Stream& stream, size_t place) { return send_at_most(stream, place, UINT64_MAX); }

  bool send_at_most(Stream& stream, size_t place, uint64_t most) {
    stream.blocked = false;
    const uint64_t end = std::min(stream.queued, most > UINT64_MAX - stream.sent ? UINT64_MAX : stream.sent + most);
    while (stream.sent < end) {
      const size_t size = std::min<uint64_t>(end - stream.sent, Pattern::kLongest);
      const ssize_t sent = ::send(stream.fd, outgoing(stream, place), size, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        stream.blocked = errno == EAGAIN;
        if (!stream.blocked) ended("write", errno);
        return stream.blocked;
      }
      stream.sent += static_cast<uint64_t>(sent);
    }
    return true;
  }

  /** What is to be sent next: `Pattern::kLongest` bytes of it. */
  const char* outgoing(const Stream& stream, size_t place) const { return script.outgoing(first_ + place, stream.sent); }

  /** What a send ended with that somebody else made: a number of bytes or a negative error. False if the connection has ended. */
  bool sent(ssize_t result) {
    if (result < 0) ended("write", static_cast<int>(-result));
    return result >= 0;
  }

  /** The same of a receive; what it has brought is verified and counted. */
  bool received(Stream& stream, size_t place, const char* bytes, ssize_t result) {
    if (result <= 0) {
      ended("read", static_cast<int>(-result));
      return false;
    }
    const auto size = static_cast<size_t>(result);
    script.verify(name_, place, first_ + place, stream.sent, stream.received, bytes, size);
    stream.received += size;
    return true;
  }

  /** One recv(2). What has come is verified and counted, then `take(time)` is called with the moment at which it was here. */
  template <class Take>
  Io receive_at_most(Stream& stream, size_t place, size_t most, Take take) {
    const ssize_t size = ::recv(stream.fd, buffer_.data(), most, 0);
    if (size < 0 && errno == EAGAIN) return Io::kNothing;
    if (size < 0 && errno == EINTR) return Io::kMore;
    const uint64_t time = now();
    if (!received(stream, place, buffer_.data(), size < 0 ? -errno : size)) return Io::kEnded;
    take(time);
    return static_cast<size_t>(size) == most ? Io::kMore : Io::kSome;
  }

  /** All that is there: until a read is short, because an edge-triggered epoll reports it once. `take` must not close the stream. */
  template <class Take>
  Io receive(Stream& stream, size_t place, Take take) {
    bool any = false;
    for (;;) {
      const Io io = receive_at_most(stream, place, kReceiveBytes, take);
      if (io == Io::kNothing && any) return Io::kSome;
      if (io != Io::kMore) return io;
      any = true;
    }
  }

  /** Why the last call said that a connection has ended. */
  std::string reason() const { return error_ == 0 ? "the server closed it" : failure_of(call_, error_); }
  int error() const { return error_; }

  const Script& script;

 private:
  static constexpr size_t kReceiveBytes = 256 * 1024;

  void ended(const char* call, int error) {
    call_ = call;
    error_ = error;
  }

  const char* name_;
  size_t first_;
  std::vector<char> buffer_;
  const char* call_ = "";
  int error_ = 0;
};
