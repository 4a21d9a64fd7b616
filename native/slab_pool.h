// Memory for large reads, used again and again. The C library gives blocks of this size back to the kernel and takes others, at a page fault for
// each 4 KiB of them: measured at anything up to half of what an echo of 16 KiB costs.
//
// A slab is in JavaScript's hands as an ArrayBuffer, and comes back when that was collected, on whatever thread V8 sweeps on. The pool lives
// until the last has come back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace onewait {

class SlabPool {
 public:
  /** src/driver.ts has it, too. */
  static constexpr size_t kSlabBytes = 512 * 1024;
  /** V8 collects when young ArrayBuffers hold 32 MiB, and the slabs that it finds unused come back a little later: 48 MiB. */
  static constexpr size_t kMaxSlabs = 96;

  SlabPool() = default;
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;
  ~SlabPool();

  /** A slab, or null when all are taken. What is in it is not defined. */
  uint8_t* take();
  void give_back(uint8_t* slab);
  /** Gives the kernel what is not in use, and until the next is taken also what comes back. How many bytes are left. */
  size_t trim();

 private:
  /** Mapped at once: a huge page, where the kernel has them. */
  static constexpr size_t kRegionBytes = 2 * 1024 * 1024;

  void unmap_unused_regions();

  std::mutex mutex_;
  bool trimming_ = false;
  std::vector<uint8_t*> free_;
  std::vector<uint8_t*> regions_;
};

}  // namespace onewait
