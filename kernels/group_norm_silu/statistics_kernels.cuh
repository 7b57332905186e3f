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
  Partial* partials = target.partials + int64_t{blockIdx.x} * gridDim.y;
  if (threadIdx.x == 0) StorePartial(total, partials + blockIdx.y);

  __shared__ Moments shared[kPassThreads];
  if (ArrivesLast(target.arrivals + blockIdx.x, gridDim.y)) {
    const auto groups = static_cast<int>(target.options.num_groups);
    FinishGroups<kPassThreads>(target, blockIdx.x / groups, blockIdx.x % groups, 1,
                               {partials, static_cast<int>(gridDim.y), 1, 0}, shared);
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

// The channels of a map that one block has.
struct TileChannels {
  ColumnTile tile;
  int first, count;
};

// Merges what the threads of a block found into a partial for every group. Channels of one thread
// and one group, kSegment neighbours, are merged first. `shared` has room for two values of each
// thread.
template <int kSegment, int kVector>
__device__ __forceinline__ void StorePartials(const LaneMoments<kVector>& lanes,
                                              const TileChannels& of, int group_channels,
                                              int groups, Partial* partials, Moments* shared) {
  constexpr int kSegments = kVector / kSegment;
  constexpr int kAtOnce = kSegments < 2 ? 1 : 2;
  for (int begin = 0; begin < groups; begin += kStatisticsThreads) {
    const GroupSlots slots = SlotsFor<kStatisticsThreads>(min(groups - begin, kStatisticsThreads));
    // The group's part of the tile, in segments.
    const int channel = (begin + slots.group) * group_channels - of.first;
    const int from = max(channel, 0) / kSegment;
    const int width = min(channel + group_channels, of.count) / kSegment - from;
    Moments total = {};
#pragma unroll
    for (int part = 0; part < kSegments; part += kAtOnce) {
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        shared[k * kStatisticsThreads + threadIdx.x] =
            lanes.template Together<kSegment>((part + k) * kSegment);
      }
      __syncthreads();
      const int entries = slots.slot < slots.slots ? width * of.tile.rows : 0;
      for (int i = slots.slot; i < entries; i += slots.slots) {
        const int segment = from + i % width;
        const int k = segment % kSegments - part;
        if (k < 0 || k >= kAtOnce) continue;
        const int thread = i / width * of.tile.columns + segment / kSegments;
        total = Merge(total, shared[k * kStatisticsThreads + thread]);
      }
    }
    __syncthreads();
    total = MergeSlots(total, slots, shared);
    if (slots.slot == 0) StorePartial(total, partials + begin + slots.group);
  }
}

// The same with the widest segments that groups consist of.
template <int kSegment, int kVector>
__device__ __forceinline__ void StoreWidestPartials(const LaneMoments<kVector>& lanes,
                                                    const TileChannels& of, int group_channels,
                                                    int groups, Partial* partials,
                                                    Moments* shared) {
  if constexpr (kSegment > 1) {
    if (group_channels % kSegment != 0) {
      StoreWidestPartials<kSegment / 2>(lanes, of, group_channels, groups, partials, shared);
      return;
    }
  }
  StorePartials<kSegment>(lanes, of, group_channels, groups, partials, shared);
}

// Channels-last, pitch % Source::kWidth == 0. Grid: (samples, blocks of positions, column tiles).
// Every tile writes a partial for every group; it is empty if the tile has none of its channels.
// The blocks read side by side, and from the map's end to its beginning: a conv wrote the end last,
// so part of it is still in the second-level cache.
template <typename Source>
__global__ void __launch_bounds__(kStatisticsThreads)
    ChannelsLastStatistics(Source source, uint32_t positions, int64_t pitch, ColumnTile tile,
                           StatisticsTarget target) {
  constexpr int kVector = Source::kWidth;
  constexpr uint32_t kBatch = Source::kBatch;
  __shared__ Moments shared[2 * kStatisticsThreads];

  WaitForPredecessor();
  LetSuccessorBegin();
  const int channels = target.channels;
  const int row = threadIdx.x / tile.columns;
  const int first_channel = blockIdx.z * tile.columns * kVector;
  const int channel = first_channel + threadIdx.x % tile.columns * kVector;

  LaneMoments<kVector> lanes;
  if (row < tile.rows && channel < channels) {
    const auto constants = source.ForChannels(channel, channels);
    const uint32_t step = kBatch * tile.rows;
    const uint32_t steps = positions / step;
    const int64_t first = int64_t{blockIdx.x} * positions + row;
    if (blockIdx.y == gridDim.y - 1) {
      const uint32_t begin = steps * step + row;
      const uint32_t left = begin < positions ? positions - begin : 0;
      const int64_t offset = (first + steps * step) * pitch + channel;
      AddRows<false>(source, constants, offset, pitch, tile.rows, left, lanes);
    }
    int64_t offset = (first + (int64_t{steps} - 1 - blockIdx.y) * step) * pitch + channel;
    for (uint32_t i = blockIdx.y; i < steps; i += gridDim.y) {
      AddRows<true>(source, constants, offset, pitch, tile.rows, step, lanes);
      offset -= int64_t{gridDim.y} * step * pitch;
    }
  }

  const auto groups = static_cast<int>(target.options.num_groups);
  const int group_channels = channels / groups;
  const TileChannels of = {tile, first_channel,
                           min(tile.columns * kVector, channels - first_channel)};
  const int partial_count = gridDim.y * gridDim.z;
  Partial* partials = target.partials + int64_t{blockIdx.x} * partial_count * groups;
  Partial* own = partials + int64_t{blockIdx.z * gridDim.y + blockIdx.y} * groups;
  StoreWidestPartials<kVector>(lanes, of, group_channels, groups, own, shared);
  if (ArrivesLast(target.arrivals + blockIdx.x, partial_count)) {
    FinishGroups<kStatisticsThreads>(target, blockIdx.x, 0, groups,
                                     {partials, partial_count, groups, 1}, shared);
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_
