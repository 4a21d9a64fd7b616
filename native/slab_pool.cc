#include "slab_pool.h"

#include <sys/mman.h>

#include <algorithm>

namespace onewait {

SlabPool::~SlabPool() {
  for (uint8_t* region : regions_) ::munmap(region, kRegionBytes);
}

uint8_t* SlabPool::take() {
  const std::lock_guard lock(mutex_);
  trimming_ = false;
  if (free_.empty()) {
    if ((regions_.size() + 1) * kRegionBytes > kMaxSlabs * kSlabBytes) return nullptr;
    // Twice as much, of which what is not aligned is unmapped again: huge pages have addresses that are multiples of their size.
    void* mapped = ::mmap(nullptr, 2 * kRegionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    auto* start = static_cast<uint8_t*>(mapped);
    const size_t before = (kRegionBytes - reinterpret_cast<uintptr_t>(start) % kRegionBytes) % kRegionBytes;
    if (before > 0) ::munmap(start, before);
    ::munmap(start + before + kRegionBytes, kRegionBytes - before);
    ::madvise(start + before, kRegionBytes, MADV_HUGEPAGE);
    regions_.push_back(start + before);
    for (size_t offset = kRegionBytes; offset > 0; offset -= kSlabBytes) free_.push_back(start + before + offset - kSlabBytes);
  }
  uint8_t* slab = free_.back();
  free_.pop_back();
  return slab;
}

void SlabPool::give_back(uint8_t* slab) {
  const std::lock_guard lock(mutex_);
  free_.push_back(slab);
  if (trimming_) unmap_unused_regions();
}

size_t SlabPool::trim() {
  const std::lock_guard lock(mutex_);
  trimming_ = true;
  unmap_unused_regions();
  return regions_.size() * kRegionBytes;
}

void SlabPool::unmap_unused_regions() {
  std::erase_if(regions_, [this](uint8_t* region) {
    const auto inside = [region](const uint8_t* slab) { return slab >= region && slab < region + kRegionBytes; };
    if (std::ranges::count_if(free_, inside) < static_cast<ptrdiff_t>(kRegionBytes / kSlabBytes)) return false;
    std::erase_if(free_, inside);
    ::munmap(region, kRegionBytes);
    return true;
  });
}

}  // namespace onewait
