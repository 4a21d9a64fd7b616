#include "memory_pool.h"

#include <sys/mman.h>

#include <algorithm>

namespace onewait {

MemoryPool::~MemoryPool() {
  for (uint8_t* region : regions_) ::munmap(region, kRegionBytes);
}

uint8_t* MemoryPool::take() {
  const std::lock_guard lock(mutex_);
  trimming_ = false;
  if (free_.empty()) {
    if ((regions_.size() + 1) * kRegionBytes > most_bytes_) return nullptr;
    // Twice as much, of which what is not aligned is unmapped again: huge pages have addresses that are multiples of their size.
    void* mapped = ::mmap(nullptr, 2 * kRegionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    auto* start = static_cast<uint8_t*>(mapped);
    const size_t before = (kRegionBytes - reinterpret_cast<uintptr_t>(start) % kRegionBytes) % kRegionBytes;
    if (before > 0) ::munmap(start, before);
    ::munmap(start + before + kRegionBytes, kRegionBytes - before);
    regions_.push_back(start + before);
    // Who reads little does not need 2 MiB at once.
    advise(regions_.size() > 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (size_t offset = kRegionBytes; offset > 0; offset -= block_bytes_) free_.push_back(start + before + offset - block_bytes_);
  }
  uint8_t* block = free_.back();
  free_.pop_back();
  return block;
}

void MemoryPool::give_back(uint8_t* block) {
  const std::lock_guard lock(mutex_);
  free_.push_back(block);
  if (!trimming_) return;
  uint8_t* region = block - reinterpret_cast<uintptr_t>(block) % kRegionBytes;
  if (unmap_if_unused(region)) std::erase(regions_, region);
  else ::madvise(block, block_bytes_, MADV_DONTNEED);
}

size_t MemoryPool::trim() {
  const std::lock_guard lock(mutex_);
  std::erase_if(regions_, [this](uint8_t* region) { return unmap_if_unused(region); });
  if (!trimming_) {
    for (uint8_t* block : free_) ::madvise(block, block_bytes_, MADV_DONTNEED);
    // Else khugepaged would make huge pages of what is left, and take back all that has been given.
    advise(MADV_NOHUGEPAGE);
  }
  trimming_ = true;
  return regions_.size() * kRegionBytes;
}

void MemoryPool::advise(int advice) {
  for (uint8_t* region : regions_) ::madvise(region, kRegionBytes, advice);
}

bool MemoryPool::unmap_if_unused(uint8_t* region) {
  const auto inside = [region](const uint8_t* block) { return block >= region && block < region + kRegionBytes; };
  if (static_cast<size_t>(std::ranges::count_if(free_, inside)) < kRegionBytes / block_bytes_) return false;
  std::erase_if(free_, inside);
  ::munmap(region, kRegionBytes);
  return true;
}

}  // namespace onewait
