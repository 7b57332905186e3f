// What becomes of a tile's sums: they stay in registers, where bias and residual are added, they
// are rounded once, and their moments are taken for the next normalisation.
#ifndef MAGVIT_TENSOR_CORE_CONV_RESULTS_CUH_
#define MAGVIT_TENSOR_CORE_CONV_RESULTS_CUH_

#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "group_norm_silu/finish.cuh"
#include "group_norm_silu/statistics.h"
#include "tensor/launch.cuh"
#include "tensor_core_conv/hopper.cuh"
#include "tensor_core_conv/tiles.h"

namespace magvit {

// What is added, and where moments go.
struct ConvEnd {
  const float* bias;  // [channels], or null
  Partial* partials;  // [clip, group, tile of the clip]
  int groups, group_channels;
};

__device__ __forceinline__ float2 UnpackHalves(uint32_t word) {
  __half2 halves;
  memcpy(&halves, &word, sizeof(word));
  return __half22float2(halves);
}

__device__ __forceinline__ uint32_t PackHalves(float first, float second) {
  const __half2 halves = __floats2half2_rn(first, second);
  uint32_t word;
  memcpy(&word, &halves, sizeof(word));
  return word;
}

// Sums to halves in `results`, channels last and swizzled, after bias and residual; the residual is
// there before. `sums` then has the rounded values.
template <bool kHasResidual>
__device__ __forceinline__ void RoundResults(const float* bias, int first_channel, int warp,
                                             int lane, uint32_t results, Products& sums) {
  const int channel = first_channel + warp * 16 + lane / 4;
  const float biases[2] = {bias == nullptr ? 0.0f : __ldg(bias + channel),
                           bias == nullptr ? 0.0f : __ldg(bias + channel + 8)};
  const int matrix = lane / 8, row = lane % 8;
  const uint32_t unit = ((warp * 2 + matrix % 2) ^ row) * kSwizzledUnit;
#pragma unroll
  for (int j = 0; j < kProductColumns / 8; j += 2) {
    const uint32_t address = results + ((j + matrix / 2) * 8 + row) * kSwizzledRow + unit;
    uint32_t words[4];
    if constexpr (kHasResidual) LoadTransposed(address, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float* pair = &sums[4 * j + 2 * k];
      float2 added = {biases[k % 2], biases[k % 2]};
      if constexpr (kHasResidual) {
        const float2 residual = UnpackHalves(words[k]);
        added.x += residual.x;
        added.y += residual.y;
      }
      words[k] = PackHalves(pair[0] + added.x, pair[1] + added.y);
      const float2 rounded = UnpackHalves(words[k]);
      pair[0] = rounded.x;
      pair[1] = rounded.y;
    }
    StoreTransposed(address, words);
  }
}

// The moments of two sets of equally many values.
__device__ __forceinline__ Moments MergeEqual(const Moments& a, const Moments& b) {
  const float delta = b.mean - a.mean;
  return {2.0f * a.count, 0.5f * (a.mean + b.mean),
          a.deviations + b.deviations + 0.5f * a.count * delta * delta};
}

// Merges what the four threads of a row have of it.
__device__ __forceinline__ Moments MergeRow(Moments value) {
#pragma unroll
  for (int offset = 1; offset <= 2; offset *= 2) {
    value = MergeEqual(value, {value.count, __shfl_xor_sync(~0u, value.mean, offset),
                               __shfl_xor_sync(~0u, value.deviations, offset)});
  }
  return value;
}

// The moments of a tile's channels, in `channels`. Values that are all equal have none but a mean:
// their sum is exact.
__device__ __forceinline__ void TakeMoments(const Products& sums, int warp, int lane,
                                            Moments* channels) {
  constexpr int kPairs = kProductRegisters / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total[2] = {};
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      total[0] += sums[4 * j + 2 * half];
      total[1] += sums[4 * j + 2 * half + 1];
    }
    const float mean = (total[0] + total[1]) * (0.5f / kPairs);
    float spread[2] = {};
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float deviation = sums[4 * j + 2 * half + k] - mean;
        spread[k] += deviation * deviation;
      }
    }
    const Moments row = MergeRow({2.0f * kPairs, mean, spread[0] + spread[1]});
    if (lane % 4 == 0) channels[warp * 16 + half * 8 + lane / 4] = row;
  }
}

// A partial for each group of the channels from `first_channel` on.
__device__ __forceinline__ void StoreGroups(const ConvEnd& end, const ConvTile& tile,
                                            int tiles_of_clip, int first_channel, int thread,
                                            const Moments* channels) {
  if (thread >= kProductRows / end.group_channels) return;
  Moments total = channels[thread * end.group_channels];
  for (int i = 1; i < end.group_channels; ++i) {
    total = Merge(total, channels[thread * end.group_channels + i]);
  }
  const int64_t group = first_channel / end.group_channels + thread;
  StorePartial(
      total, end.partials + (int64_t{tile.clip} * end.groups + group) * tiles_of_clip + tile.place);
}

constexpr int kFinishThreads = 256;

// Each group's partials to the normalisation of its channels. Grid: (clips * groups).
__global__ void __launch_bounds__(kFinishThreads)
    FinishConvMoments(StatisticsTarget target, int partials) {
  __shared__ Moments shared[kFinishThreads];
  WaitForPredecessor();
  LetSuccessorBegin();
  const auto groups = static_cast<int>(target.options.num_groups);
  const int clip = blockIdx.x / groups;
  FinishGroups<kFinishThreads>(target, clip, blockIdx.x - clip * groups, 1,
                               {target.partials + int64_t{blockIdx.x} * partials, partials, 1, 0},
                               shared);
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_CORE_CONV_RESULTS_CUH_
