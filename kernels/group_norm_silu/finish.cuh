// The end of a statistics pass: the last block to arrive merges the partials into one mean, scale
// and shift per channel. Which block arrives last changes from run to run, but the result doesn't,
// because it merges all partials in the order of their places.
#ifndef MAGVIT_GROUP_NORM_SILU_FINISH_CUH_
#define MAGVIT_GROUP_NORM_SILU_FINISH_CUH_

#include <cstdint>

#include "group_norm_silu/block_plans.h"
#include "group_norm_silu/normalization.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/statistics.h"

namespace magvit {

constexpr int kWarpThreads = 32;
constexpr int kPassWarps = kPassThreads / kWarpThreads;

// Floats per sample in `NormalizationView`, rounded up so that vectors of channels are aligned.
constexpr int64_t kNormalizationMultiple = 8;

inline int64_t NormalizationRow(int64_t channels) {
  return DivideUp(channels, kNormalizationMultiple) * kNormalizationMultiple;
}

// One value for each [sample, channel], in rows of NormalizationRow() floats. Padding isn't
// written.
struct NormalizationView {
  float* mean;
  float* scale;
  float* shift;
  int64_t row;
};

// The output of a statistics pass, and the partials and counters that it needs.
struct StatisticsTarget {
  magvit_group_norm_options options;
  int channels;
  Moments* partials;   // [sample, group, partial]
  uint32_t* arrivals;  // one for each set of blocks that share a last one; zero before and after
  NormalizationView normalization;
};

// Lane 0 gets the moments of the whole warp.
__device__ __forceinline__ Moments MergeWarp(Moments value) {
  for (int offset = kWarpThreads / 2; offset > 0; offset /= 2) {
    const Moments other = {__shfl_down_sync(~0u, value.count, offset),
                           __shfl_down_sync(~0u, value.mean, offset),
                           __shfl_down_sync(~0u, value.deviations, offset)};
    value = Merge(value, other);
  }
  return value;
}

// Whether this block is the last of `blocks` to arrive. The last block then sees all earlier writes
// of the others, and sets the counter back to zero.
__device__ __forceinline__ bool ArrivesLast(uint32_t* arrivals, uint32_t blocks) {
  __shared__ bool is_last;
  __syncthreads();
  if (threadIdx.x == 0) {
    // Fences are cumulative: this one orders all writes that the barrier put before it.
    __threadfence();
    is_last = atomicInc(arrivals, blocks - 1) == blocks - 1;
    __threadfence();
  }
  __syncthreads();
  return is_last;
}

// Reads past the first-level cache, which doesn't see other multiprocessors' writes.
__device__ __forceinline__ Moments LoadPartial(const Moments* partial) {
  return {__ldcg(&partial->count), __ldcg(&partial->mean), __ldcg(&partial->deviations)};
}

// The groups `first` to `first + count - 1` of a sample, a warp for each, of `partial_count`
// partials each.
__device__ __forceinline__ void FinishGroups(const StatisticsTarget& target, int sample, int first,
                                             int count, int partial_count) {
  constexpr int kInFlight = 4;
  const auto groups = static_cast<int>(target.options.num_groups);
  const int group_channels = target.channels / groups;
  const int lane = threadIdx.x % kWarpThreads;
  for (int group = first + threadIdx.x / kWarpThreads; group < first + count; group += kPassWarps) {
    const Moments* partials = target.partials + (int64_t{sample} * groups + group) * partial_count;
    Moments total = {};
    for (int i = lane; i < partial_count; i += kInFlight * kWarpThreads) {
      Moments loaded[kInFlight] = {};
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        const int index = i + k * kWarpThreads;
        if (index < partial_count) loaded[k] = LoadPartial(partials + index);
      }
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) total = Merge(total, loaded[k]);
    }
    total = MergeWarp(total);
    const float mean = __shfl_sync(~0u, total.mean, 0);
    const float inverse = __shfl_sync(~0u, InverseDeviation(total, target.options.epsilon), 0);
    for (int i = lane; i < group_channels; i += kWarpThreads) {
      const int channel = group * group_channels + i;
      const int64_t affine = AffineIndex(target.options, target.channels, sample, channel);
      const int64_t index = sample * target.normalization.row + channel;
      target.normalization.mean[index] = mean;
      target.normalization.scale[index] =
          target.options.weight != nullptr ? target.options.weight[affine] * inverse : inverse;
      target.normalization.shift[index] =
          target.options.bias != nullptr ? target.options.bias[affine] : 0.0f;
    }
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_FINISH_CUH_
