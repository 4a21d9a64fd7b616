// The bytes that are sent or must come back. From a server that echoes, the same come back: byte p of connection c is a fixed pseudo-random
// byte that depends on both, so a lost, doubled, swapped or foreign byte is seen. Otherwise they are a text, over and over. Either way any
// stretch of a stream is a contiguous piece of one small table, so sending copies nothing and verifying is one memcmp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

class Pattern {
 public:
  Pattern() : period_(kPeriod), stride_(kStride), table_(kPeriod + kLongest) {
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < kPeriod; i++) {
      // xorshift64 (Marsaglia, 2003); the high bits are the good ones.
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      table_[i] = static_cast<char>(state >> 56);
    }
    for (size_t i = kPeriod; i < table_.size(); i++) table_[i] = table_[i - kPeriod];
  }

  /** `text` again and again, on every connection. */
  explicit Pattern(const std::string& text) : period_(text.size()), stride_(0), table_(text.size() + kLongest) {
    for (size_t i = 0; i < table_.size(); i++) table_[i] = text[i % text.size()];
  }

  /** No piece is longer than this. */
  static constexpr size_t kLongest = 64 * 1024;

  /** The bytes of connection `index` from stream position `position` on; `kLongest` of them may be used. */
  const char* at(size_t index, uint64_t position) const {
    return table_.data() + (position + index * stride_) % period_;
  }

  /** The first position at or after `position` where `bytes` differs from the pattern, or `position + size` if none does. */
  uint64_t mismatch(size_t index, uint64_t position, const char* bytes, size_t size) const {
    for (size_t done = 0; done < size;) {
      const size_t piece = std::min(size - done, kLongest);
      const char* expected = at(index, position + done);
      if (std::memcmp(expected, bytes + done, piece) != 0) {
        return position + done + static_cast<uint64_t>(std::mismatch(expected, expected + piece, bytes + done).first - expected);
      }
      done += piece;
    }
    return position + size;
  }

 private:
  // Primes: messages of any round size start at ever different places, and the table stays in the nearest cache.
  static constexpr size_t kPeriod = 16381;
  static constexpr size_t kStride = 4099;

  size_t period_;
  size_t stride_;
  std::vector<char> table_;
};
