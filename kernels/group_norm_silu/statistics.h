// Mean and variance in fp32 that stay accurate over millions of elements and under any offset.
//
// Naive fp32 sums lose 3 to 4 digits over the 1.1 million elements of one group at 17x128x128, most
// on flat backgrounds. Here a thread gathers the elements in small chunks in registers, takes each
// chunk's exact mean and squared deviations, and merges chunks, lanes, threads and blocks by the
// pairwise formula of Chan, Golub and LeVeque ("Updating formulae and a pairwise
// algorithm for computing sample variances", 1979). Nothing is ever subtracted from a large sum of
// squares, and equal values give a variance of exactly zero.
#ifndef MAGVIT_GROUP_NORM_SILU_STATISTICS_H_
#define MAGVIT_GROUP_NORM_SILU_STATISTICS_H_

#include <cstdint>

#include "tensor/host_device.h"

namespace magvit {

// Count, mean and sum of squared deviations from the mean, of some set of elements.
struct Moments {
  float count;
  float mean;
  float deviations;
};

// part / whole, both counts of elements; exactly 1 if they are the same power of two. A GPU refines
// its quick reciprocal by one Newton step, because an exact quotient needs a branch.
MAGVIT_HOST_DEVICE float Fraction(float part, float whole) {
#ifdef __CUDA_ARCH__
  const float quick = __fdividef(1.0f, whole);
  return part * fmaf(quick, fmaf(-whole, quick, 1.0f), quick);
#else
  return part / whole;
#endif
}

// The moments of two disjoint sets together.
MAGVIT_HOST_DEVICE Moments Merge(const Moments& a, const Moments& b) {
  if (b.count == 0.0f) return a;
  if (a.count == 0.0f) return b;
  const float count = a.count + b.count;
  const float fraction = Fraction(b.count, count);
  const float delta = b.mean - a.mean;
  return {count, a.mean + delta * fraction,
          a.deviations + b.deviations + delta * delta * a.count * fraction};
}

// Sum of rows[kFirst .. kFirst + kCount - 1][lane] as a balanced tree: exact for equal values.
template <int kFirst, int kCount, int kRows, int kLanes>
MAGVIT_HOST_DEVICE float TreeSum(const float (&rows)[kRows][kLanes], int lane) {
  if constexpr (kCount == 1) {
    return rows[kFirst][lane];
  } else {
    return TreeSum<kFirst, kCount / 2>(rows, lane) +
           TreeSum<kFirst + kCount / 2, kCount / 2>(rows, lane);
  }
}

// The moments of kLanes columns that grow by the same number of rows at a time: one 16-byte vector
// of a GPU thread, or a few SIMD registers of a CPU.
template <int kLanes>
struct LaneMoments {
  float count = 0.0f;
  float mean[kLanes] = {};
  float deviations[kLanes] = {};

  // Adds kRows rows (a power of two).
  template <int kRows>
  MAGVIT_HOST_DEVICE void Add(const float (&rows)[kRows][kLanes]) {
    static_assert((kRows & (kRows - 1)) == 0, "TreeSum halves the rows");
    const float before = count;
    count += kRows;
    const float fraction = Fraction(kRows, count);
    const float weight = before * fraction;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float chunk_mean = TreeSum<0, kRows>(rows, lane) * (1.0f / kRows);
      float chunk_deviations = 0.0f;
      for (int row = 0; row < kRows; ++row) {
        const float deviation = rows[row][lane] - chunk_mean;
        chunk_deviations += deviation * deviation;
      }
      const float delta = chunk_mean - mean[lane];
      mean[lane] += delta * fraction;
      deviations[lane] += chunk_deviations + delta * delta * weight;
    }
  }

  MAGVIT_HOST_DEVICE Moments Lane(int lane) const { return {count, mean[lane], deviations[lane]}; }

  // The kLanesOf lanes from `first` on together; they have seen equally many values.
  template <int kLanesOf>
  MAGVIT_HOST_DEVICE Moments Together(int first) const {
    float means[kLanesOf][1];
    float spread[kLanesOf][1];
    for (int i = 0; i < kLanesOf; ++i) means[i][0] = mean[first + i];
    const float center = TreeSum<0, kLanesOf>(means, 0) * (1.0f / kLanesOf);
    for (int i = 0; i < kLanesOf; ++i) {
      const float delta = mean[first + i] - center;
      spread[i][0] = deviations[first + i] + count * delta * delta;
    }
    return {kLanesOf * count, center, TreeSum<0, kLanesOf>(spread, 0)};
  }

  // All lanes together.
  MAGVIT_HOST_DEVICE Moments Total() const {
    Moments total = Lane(0);
    for (int lane = 1; lane < kLanes; ++lane) total = Merge(total, Lane(lane));
    return total;
  }
};

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_STATISTICS_H_
