// Memory for reads, used again and again. What the C library and V8 do with such blocks is to give them back and to take others, with page faults
// where the kernel is involved: measured at anything up to half of what an echo of 16 KiB costs.
//
// A block is in JavaScript's hands as an ArrayBuffer, and comes back when that was collected, on whatever thread V8 sweeps on. The pool lives
// until the last has come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace onewait {

class MemoryPool {
 public:
  /** Blocks of `block_bytes`, a divisor of 2 MiB, and at most `most_bytes` of them. */
  MemoryPool(size_t block_bytes, size_t most_bytes) : block_bytes_(block_bytes), most_bytes_(most_bytes) {}
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  ~MemoryPool();

  size_t block_bytes() const { return block_bytes_; }
  /** A block, or null when all are taken. What is in it is not defined. */
  uint8_t* take();
  void give_back(uint8_t* block);
  /** Gives the kernel what is not in use, and until the next is taken also what comes back. How many bytes are mapped still. */
  size_t trim();

 private:
  /** Mapped at once, at a multiple of it: a huge page, where the kernel has them and much is read. */
  static constexpr size_t kRegionBytes = 2 * 1024 * 1024;

  void advise(int advice);
  bool unmap_if_unused(uint8_t* region);

  const size_t block_bytes_;
  const size_t most_bytes_;
  std::mutex mutex_;
  bool trimming_ = false;
  std::vector<uint8_t*> free_;
  std::vector<uint8_t*> regions_;
};

}  // namespace onewait
