// What is said on a connection: messages of a fixed size, one after another, and what must come back for them. It is the same for
// every shape of load, and every byte that comes back is compared with it.
#pragma once

#include "failure.h"
#include "options.h"
#include "pattern.h"

class Script {
 public:
  explicit Script(const Options& options)
      : request_bytes(options.message_bytes),
        response_bytes(options.response.empty() ? options.message_bytes : options.response.size()),
        echoes_(options.request.empty()),
        sent_(echoes_ ? Pattern() : Pattern(options.request)),
        expected_(echoes_ ? Pattern() : Pattern(options.response)) {}

  const size_t request_bytes;
  const size_t response_bytes;

  /** What connection `number` sends from stream position `position` on: `Pattern::kLongest` bytes of it. */
  const char* outgoing(size_t number, uint64_t position) const { return sent_.at(number, position); }

  /**
   * How many bytes may have come back once `sent` have left: an echo comes while its message is still being sent, an answer to a
   * whole request.
   */
  uint64_t due(uint64_t sent) const { return echoes_ ? sent : sent / request_bytes * response_bytes; }

  /**
   * Ends the program unless `bytes` are what must come back to connection `number` from stream position `received` on. `name` and
   * `place` tell a person which one it is.
   */
  void verify(const char* name, size_t place, size_t number, uint64_t sent, uint64_t received, const char* bytes,
              size_t size) const {
    const uint64_t differs = expected_.mismatch(number, received, bytes, size);
    const uint64_t allowed = due(sent);
    const uint64_t wrong = std::min(differs, allowed);
    if (wrong == received + size) return;
    if (wrong == allowed) fail(kCorrupted, "%s %zu: the server sent more bytes than it was given", name, place + 1);
    fail(kCorrupted, "%s %zu: byte %llu came back as 0x%02x, not as 0x%02x", name, place + 1, static_cast<unsigned long long>(wrong),
         static_cast<unsigned char>(bytes[static_cast<size_t>(wrong - received)]),
         static_cast<unsigned char>(*expected_.at(number, wrong)));
  }

 private:
  const bool echoes_;
  Pattern sent_;
  Pattern expected_;
};
