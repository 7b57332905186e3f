// The first pass of GroupNorm on the GPU: it makes partial moments from the input, and the
// normalisation from these. Accumulators stay in registers, element by element. Each block reduces
// them once, at its end (reducing every tile took more than twice as long on an H100).
#ifndef MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_
#define MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_

#include <cstdint>

#include "group_norm_silu/block_plans.h"
#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/finish.cuh"
#include "group_norm_silu/statistics.h"
#include "tensor/launch.cuh"
#include "tensor/vector_access.cuh"

namespace magvit {

// Thread 0 gets the moments of the whole block; the others must not use the result.
__device__ __forceinline__ Moments MergeBlock(Moments value) {
  __shared__ Moments warps[kPassWarps];
  value = MergeWarp(value);
  if (threadIdx.x % kWarpThreads == 0) warps[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  if (threadIdx.x < kWarpThreads) {
    value = threadIdx.x < kPassWarps ? warps[threadIdx.x] : Moments{};
    value = MergeWarp(value);
  }
  return value;
}

// Adds the vectors source[0], source[stride], ... below `end` to the lanes.
template <typename T, int kVector>
__device__ __forceinline__ void AddVectors(const T* source, int64_t stride, const T* end,
                                           LaneMoments<kVector>& lanes) {
  constexpr int kBatch = kBatchOf<sizeof(Vector<T, kVector>)>;
  for (; source + (kBatch - 1) * stride < end; source += kBatch * stride) {
    float batch[kBatch][kVector];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) LoadFloats<kVector>(source + i * stride, batch[i]);
    lanes.Add(batch);
  }
  for (; source < end; source += stride) {
    float single[1][kVector];
    LoadFloats<kVector>(source, single[0]);
    lanes.Add(single);
  }
}

// Channels-first: a group is one contiguous range of group_size elements, a multiple of kVector.
// Grid: (samples * groups, partials). Each group has its own last block.
template <typename T, int kVector>
__global__ void __launch_bounds__(kPassThreads, kPassBlocks)
    ChannelsFirstStatistics(const T* input, int64_t group_size, int64_t block_length,
                            StatisticsTarget target) {
  WaitForPredecessor();
  LetSuccessorBegin();
  const T* group = input + blockIdx.x * group_size;
  const int64_t begin = blockIdx.y * block_length;
  const int64_t end = min(begin + block_length, group_size);

  LaneMoments<kVector> lanes;
  AddVectors(group + begin + threadIdx.x * kVector, int64_t{kPassThreads} * kVector, group + end,
             lanes);
  const Moments total = MergeBlock(lanes.Total());
  if (threadIdx.x == 0) target.partials[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = total;

  if (ArrivesLast(target.arrivals + blockIdx.x, gridDim.y)) {
    const auto groups = static_cast<int>(target.options.num_groups);
    FinishGroups(target, blockIdx.x / groups, blockIdx.x % groups, 1, gridDim.y);
  }
}

// Adds a batch of rows of a channels-last source to the lanes, `rows` positions and `rows` * pitch
// elements apart; unless kAll, only those that come before the `left`th position.
template <bool kAll, typename Source, int kVector>
__device__ __forceinline__ void AddRows(const Source& source,
                                        const typename Source::Constants& constants, int64_t offset,
                                        int64_t pitch, uint32_t rows, uint32_t left,
                                        LaneMoments<kVector>& lanes) {
  constexpr int kBatch = Source::kBatch;
  typename Source::Fetched fetched[kBatch] = {};
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    if (kAll || i * rows < left) fetched[i] = source.Fetch(offset + i * rows * pitch);
  }
  float batch[kBatch][kVector];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const auto value = source.Value(fetched[i], constants);
    if (kAll || i * rows < left) source.Keep(value, offset + i * rows * pitch);
    float single[1][kVector];
#pragma unroll
    for (int lane = 0; lane < kVector; ++lane) {
      batch[i][lane] = single[0][lane] = ToFloat(value.values[lane]);
    }
    if (!kAll && i * rows < left) lanes.Add(single);
  }
  if constexpr (kAll) lanes.Add(batch);
}

// Channels-last, pitch % Source::kWidth == 0. Grid: (samples, blocks of positions, column tiles).
// Every tile writes a partial for every group; it is empty if the tile has none of its channels.
template <typename Source>
__global__ void __launch_bounds__(kPassThreads, kPassBlocks)
    ChannelsLastStatistics(Source source, uint32_t positions, int64_t pitch, ColumnTile tile,
                           uint32_t block_length, StatisticsTarget target) {
  constexpr int kVector = Source::kWidth;
  constexpr int kBatch = Source::kBatch;
  __shared__ float means[kPassThreads * kVector];
  __shared__ float deviations[kPassThreads * kVector];
  __shared__ float counts[kPassThreads];

  WaitForPredecessor();
  LetSuccessorBegin();
  const int channels = target.channels;
  const int row = threadIdx.x / tile.columns;
  const int first_channel = blockIdx.z * tile.columns * kVector;
  const int channel = first_channel + threadIdx.x % tile.columns * kVector;
  const uint32_t begin = blockIdx.y * block_length;
  const uint32_t end = min(begin + block_length, positions);

  LaneMoments<kVector> lanes;
  if (row < tile.rows && channel < channels) {
    const auto constants = source.ForChannels(channel, channels);
    uint32_t position = begin + row;
    int64_t offset = (int64_t{blockIdx.x} * positions + position) * pitch + channel;
    for (; position + (kBatch - 1) * tile.rows < end; position += kBatch * tile.rows) {
      AddRows<true>(source, constants, offset, pitch, tile.rows, end - position, lanes);
      offset += kBatch * tile.rows * pitch;
    }
    if (position < end) {
      AddRows<false>(source, constants, offset, pitch, tile.rows, end - position, lanes);
    }
  }
  counts[threadIdx.x] = lanes.count;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    means[threadIdx.x * kVector + i] = lanes.mean[i];
    deviations[threadIdx.x * kVector + i] = lanes.deviations[i];
  }
  __syncthreads();

  const auto groups = static_cast<int>(target.options.num_groups);
  const int group_channels = channels / groups;
  const int tile_channels = tile.columns * kVector;
  const int last_channel = min(first_channel + tile_channels, channels);
  const int partial_count = gridDim.y * gridDim.z;
  for (int group = threadIdx.x / kWarpThreads; group < groups; group += kPassWarps) {
    const int from = max(group * group_channels, first_channel) - first_channel;
    const int width = min((group + 1) * group_channels, last_channel) - first_channel - from;
    Moments total = {};
    for (int i = threadIdx.x % kWarpThreads; i < width * tile.rows; i += kWarpThreads) {
      const int entry = i / width * tile_channels + from + i % width;
      total = Merge(total, {counts[entry / kVector], means[entry], deviations[entry]});
    }
    total = MergeWarp(total);
    if (threadIdx.x % kWarpThreads == 0) {
      const int partial = blockIdx.z * gridDim.y + blockIdx.y;
      target.partials[(blockIdx.x * int64_t{groups} + group) * partial_count + partial] = total;
    }
  }
  if (ArrivesLast(target.arrivals + blockIdx.x, partial_count)) {
    FinishGroups(target, blockIdx.x, 0, groups, partial_count);
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_
