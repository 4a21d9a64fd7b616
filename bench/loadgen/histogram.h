// A log-linear histogram of latencies, after HdrHistogram (http://hdrhistogram.org): three significant digits over the whole
// range of 64 bits, in memory that does not grow, at a few instructions per value.
//
// Why not a list of values: a window holds hundreds of thousands. Why not a mean and a deviation: latency is not normal,
// its tail is what matters. Why counts: percentiles of several windows cannot be averaged, but their counts can be added.
//
// Values below 2048 have a bucket each. Above, every doubling is divided into 1024 buckets, so a bucket is never wider than
// a 1024th of the values in it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

class Histogram {
 public:
  void record(uint64_t value) {
    counts_[bucket_of(value)]++;
    total_++;
    max_ = std::max(max_, value);
  }

  void clear() { *this = Histogram(); }

  uint64_t total() const { return total_; }

  /** Exact, not rounded to a bucket. */
  uint64_t max() const { return max_; }

  /** The smallest recorded value that at least `quantile` (0 to 1) of all values do not exceed, to three digits. */
  uint64_t at(double quantile) const {
    const uint64_t rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(quantile * static_cast<double>(total_))));
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < counts_.size(); bucket++) {
      seen += counts_[bucket];
      if (seen >= rank) return std::min(highest_in(bucket), max_);
    }
    return max_;
  }

  /** Calls visit(highest value of the bucket, count) for each bucket that is not empty, in rising order. */
  template <class Visit>
  void each(Visit visit) const {
    for (size_t bucket = 0; bucket < counts_.size(); bucket++) {
      if (counts_[bucket] > 0) visit(std::min(highest_in(bucket), max_), counts_[bucket]);
    }
  }

 private:
  static constexpr int kBits = 10;
  static constexpr uint64_t kPerDoubling = 1u << kBits;

  /** Shifting a value right until it lies in [1024, 2048) leaves its bucket within its doubling. */
  static int shift_of(uint64_t value) { return std::max(0, static_cast<int>(std::bit_width(value)) - kBits - 1); }

  static size_t bucket_of(uint64_t value) {
    const int shift = shift_of(value);
    return static_cast<size_t>(static_cast<uint64_t>(shift) * kPerDoubling + (value >> shift));
  }

  static uint64_t highest_in(size_t bucket) {
    if (bucket < 2 * kPerDoubling) return bucket;
    const uint64_t shift = bucket / kPerDoubling - 1;
    const uint64_t lowest = (bucket - shift * kPerDoubling) << shift;
    return lowest + ((uint64_t{1} << shift) - 1);
  }

  std::vector<uint64_t> counts_ = std::vector<uint64_t>((64 - kBits + 1) * kPerDoubling);
  uint64_t total_ = 0;
  uint64_t max_ = 0;
};
