// The end of a statistics pass: the last block to arrive merges the partials into one mean, scale
// and shift per channel. Which block arrives last changes from run to run, but the result doesn't,
// because it merges all partials in the order of their places. (A conv that takes the moments
// itself has another kernel for this.)
#ifndef MAGVIT_GROUP_NORM_SILU_FINISH_CUH_
#define MAGVIT_GROUP_NORM_SILU_FINISH_CUH_

#include <cstdint>

#include "group_norm_silu/block_plans.h"
#include "group_norm_silu/normalization.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/statistics.h"
#include "tensor/vector_access.cuh"

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

// The moments that a block found, as one 16-byte access: count, mean, deviations, nothing.
using Partial = Vector<float, 4>;

// The output of a statistics pass, and the partials and counters that it needs.
struct StatisticsTarget {
  magvit_group_norm_options options;
  int channels;
  // [sample, partial, group], or [sample, group, partial] of channels-first maps and of convs.
  Partial* partials;
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
__device__ __forceinline__ Moments LoadPartial(const Partial* partial) {
  const float4 loaded = __ldcg(reinterpret_cast<const float4*>(partial));
  return {loaded.x, loaded.y, loaded.z};
}

__device__ __forceinline__ void StorePartial(const Moments& moments, Partial* partial) {
  StoreVector(Partial{moments.count, moments.mean, moments.deviations, 0.0f}, &partial->values[0]);
}

// A block's threads for a number of groups: thread t works on the group t % groups, in slot
// t / groups. Threads beyond the last whole slot do nothing.
struct GroupSlots {
  int groups, slots;
  int group, slot;  // of this thread
};

template <int kThreads>
__device__ __forceinline__ GroupSlots SlotsFor(int groups) {
  const auto thread = static_cast<int>(threadIdx.x);
  return {groups, kThreads / groups, thread % groups, thread / groups};
}

// Merges the values that the slots have of each group. The threads of slot 0 get the result.
// `shared` has room for one value of each thread, which nobody else uses.
__device__ __forceinline__ Moments MergeSlots(Moments value, const GroupSlots& of,
                                              Moments* shared) {
  shared[threadIdx.x] = value;
  for (int left = of.slots; left > 1;) {
    const int half = (left + 1) / 2;
    __syncthreads();
    if (of.slot < left - half) {
      value = Merge(value, shared[threadIdx.x + half * of.groups]);
      shared[threadIdx.x] = value;
    }
    left = half;
  }
  return value;
}

// A channel's scale and shift before the group's deviation is known.
struct Affine {
  float scale, shift;
};

__device__ __forceinline__ Affine LoadAffine(const StatisticsTarget& target, int sample,
                                             int channel) {
  if (channel >= target.channels) return {};
  const int64_t index = AffineIndex(target.options, target.channels, sample, channel);
  return {target.options.weight != nullptr ? target.options.weight[index] : 1.0f,
          target.options.bias != nullptr ? target.options.bias[index] : 0.0f};
}

// The partials of some groups of one sample: those of the first group, and how far apart they and
// the groups are.
struct PartialsView {
  const Partial* first;
  int count;
  int64_t stride, group_stride;
};

// Merges the partials of the groups `first` to `first + count - 1` of a sample into its mean,
// scales and shifts. `shared` as for MergeSlots.
template <int kThreads>
__device__ __forceinline__ void FinishGroups(const StatisticsTarget& target, int sample, int first,
                                             int count, const PartialsView& partials,
                                             Moments* shared) {
  constexpr int kInFlight = 8;
  constexpr int kChains = 4;  // of merges that don't wait for each other
  const int group_channels = target.channels / static_cast<int>(target.options.num_groups);
  for (int begin = 0; begin < count; begin += kThreads) {
    const GroupSlots of = SlotsFor<kThreads>(min(count - begin, kThreads));
    const int first_channel = (first + begin) * group_channels;
    const int channels = of.groups * group_channels;
    // Early, since these come from memory.
    Affine affine = LoadAffine(target, sample, first_channel + static_cast<int>(threadIdx.x));

    Moments chains[kChains] = {};
    const Partial* group = partials.first + (begin + of.group) * partials.group_stride;
    const int end = of.slot < of.slots ? partials.count : 0;
    for (int i = of.slot; i < end; i += kInFlight * of.slots) {
      Moments loaded[kInFlight] = {};
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        const int index = i + k * of.slots;
        if (index < end) loaded[k] = LoadPartial(group + index * partials.stride);
      }
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        chains[k % kChains] = Merge(chains[k % kChains], loaded[k]);
      }
    }
    const Moments merged = Merge(Merge(chains[0], chains[1]), Merge(chains[2], chains[3]));
    __syncthreads();  // What was in `shared` is read.
    const Moments total = MergeSlots(merged, of, shared);
    if (of.slot == 0) {
      shared[threadIdx.x].mean = total.mean;
      shared[threadIdx.x].deviations = InverseDeviation(total, target.options.epsilon);
    }
    __syncthreads();

    for (int i = threadIdx.x; i < channels; i += kThreads) {
      if (i >= kThreads) affine = LoadAffine(target, sample, first_channel + i);
      const Moments& of_group = shared[i / group_channels];
      const int64_t index = sample * target.normalization.row + first_channel + i;
      target.normalization.mean[index] = of_group.mean;
      target.normalization.scale[index] = affine.scale * of_group.deviations;
      target.normalization.shift[index] = affine.shift;
    }
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_FINISH_CUH_
