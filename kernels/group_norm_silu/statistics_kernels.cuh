// The first pass of GroupNorm on the GPU: the input to partial moments, laid out
// [sample, group, partial]. Accumulators live in registers, element by element; each block reduces
// them once, at its end (reducing every tile took more than twice as long on an H100).
#ifndef MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_
#define MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_

#include <algorithm>
#include <cstdint>

#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/statistics.h"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {

constexpr int kStatisticsThreads = 256;
constexpr int kWarpThreads = 32;
// Vectors that a thread reads at once, to keep enough memory requests in flight.
constexpr int kBatch = 4;

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

// Thread 0 gets the moments of the whole block; the others must not use the result.
template <int kThreads>
__device__ __forceinline__ Moments MergeBlock(Moments value) {
  __shared__ Moments warps[kThreads / kWarpThreads];
  value = MergeWarp(value);
  if (threadIdx.x % kWarpThreads == 0) warps[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  if (threadIdx.x < kWarpThreads) {
    value = threadIdx.x < kThreads / kWarpThreads ? warps[threadIdx.x] : Moments{};
    value = MergeWarp(value);
  }
  return value;
}

// Adds the vectors source[0], source[stride], ... below `end` to the lanes.
template <typename T, int kVector>
__device__ __forceinline__ void AddVectors(const T* source, int64_t stride, const T* end,
                                           LaneMoments<kVector>& lanes) {
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

// How the input is cut. It depends on the shape alone, not on the GPU, so that the results do not
// either and the workspace is known when an engine is built.
struct BlockPlan {
  int64_t blocks;        // channels-first: of each group; channels-last: of each sample
  int64_t block_length;  // channels-first: elements of a group; channels-last: positions
};

// `steps` vectors, one behind the other for a thread, cut into at most `limit` blocks of a multiple
// of kBatch steps.
inline BlockPlan CutSteps(int64_t steps, int64_t limit, int64_t step_length) {
  const int64_t block_steps = DivideUp(DivideUp(steps, limit), kBatch) * kBatch;
  return {DivideUp(steps, block_steps), block_steps * step_length};
}

// Channels-first: a group is one contiguous range of group_size elements, a multiple of kVector.
// Grid: (samples * groups, partials).
template <typename T, int kVector>
__global__ void __launch_bounds__(kStatisticsThreads)
    ChannelsFirstStatistics(const T* input, int64_t group_size, int64_t block_length,
                            Moments* partials) {
  const T* group = input + blockIdx.x * group_size;
  const int64_t begin = blockIdx.y * block_length;
  const int64_t end = min(begin + block_length, group_size);

  LaneMoments<kVector> lanes;
  AddVectors(group + begin + threadIdx.x * kVector, int64_t{kStatisticsThreads} * kVector,
             group + end, lanes);
  const Moments total = MergeBlock<kStatisticsThreads>(lanes.Total());
  if (threadIdx.x == 0) partials[int64_t{blockIdx.x} * gridDim.y + blockIdx.y] = total;
}

// The threads of a channels-last block: `columns` vectors of channels times `rows` positions.
struct ColumnTile {
  int columns;
  int rows;
  int tiles;  // that cover all channels; 1 up to 2,048 fp16 channels
};

template <int kVector>
ColumnTile TileColumns(int64_t channels) {
  const int64_t columns = DivideUp(channels, kVector);
  const int64_t tile_columns = std::min<int64_t>(columns, kStatisticsThreads);
  return {static_cast<int>(tile_columns), static_cast<int>(kStatisticsThreads / tile_columns),
          static_cast<int>(DivideUp(columns, tile_columns))};
}

// Adds rows of a channels-last source to the lanes: kRows of them, `stride` elements apart.
template <int kRows, typename Source, int kVector>
__device__ __forceinline__ void AddRows(const Source& source,
                                        const typename Source::Constants& constants, int64_t offset,
                                        int64_t stride, LaneMoments<kVector>& lanes) {
  typename Source::Fetched fetched[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) fetched[i] = source.Fetch(offset + i * stride);
  float values[kRows][kVector];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const auto value = source.Value(fetched[i], constants);
    source.Keep(value, offset + i * stride);
#pragma unroll
    for (int lane = 0; lane < kVector; ++lane) values[i][lane] = ToFloat(value.values[lane]);
  }
  lanes.Add(values);
}

// Channels-last, pitch % Source::kWidth == 0. Grid: (samples, blocks of positions, column tiles).
// Every tile writes a partial for every group, an empty one where it holds none of its channels.
template <typename Source>
__global__ void __launch_bounds__(kStatisticsThreads)
    ChannelsLastStatistics(Source source, int64_t positions, int channels, int64_t pitch,
                           int groups, ColumnTile tile, int64_t block_length, Moments* partials) {
  constexpr int kVector = Source::kWidth;
  __shared__ float means[kStatisticsThreads * kVector];
  __shared__ float deviations[kStatisticsThreads * kVector];
  __shared__ float counts[kStatisticsThreads];

  const int row = threadIdx.x / tile.columns;
  const int first_channel = blockIdx.z * tile.columns * kVector;
  const int channel = first_channel + threadIdx.x % tile.columns * kVector;
  const int64_t begin = blockIdx.y * block_length;
  const int64_t end = min(begin + block_length, positions);

  LaneMoments<kVector> lanes;
  if (row < tile.rows && channel < channels) {
    const auto constants = source.ForChannels(channel, channels);
    const int64_t stride = tile.rows * pitch;
    int64_t position = begin + row;
    int64_t offset = (blockIdx.x * positions + position) * pitch + channel;
    for (; position + (kBatch - 1) * tile.rows < end; position += kBatch * tile.rows) {
      AddRows<kBatch>(source, constants, offset, stride, lanes);
      offset += kBatch * stride;
    }
    for (; position < end; position += tile.rows) {
      AddRows<1>(source, constants, offset, stride, lanes);
      offset += stride;
    }
  }
  counts[threadIdx.x] = lanes.count;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    means[threadIdx.x * kVector + i] = lanes.mean[i];
    deviations[threadIdx.x * kVector + i] = lanes.deviations[i];
  }
  __syncthreads();

  const int warp = threadIdx.x / kWarpThreads;
  const int group_channels = channels / groups;
  const int tile_channels = tile.columns * kVector;
  const int last_channel = min(first_channel + tile_channels, channels);
  for (int group = warp; group < groups; group += kStatisticsThreads / kWarpThreads) {
    const int from = max(group * group_channels, first_channel) - first_channel;
    const int width = min((group + 1) * group_channels, last_channel) - first_channel - from;
    Moments total = {};
    for (int i = threadIdx.x % kWarpThreads; i < width * tile.rows; i += kWarpThreads) {
      const int entry = i / width * tile_channels + from + i % width;
      total = Merge(total, {counts[entry / kVector], means[entry], deviations[entry]});
    }
    total = MergeWarp(total);
    if (threadIdx.x % kWarpThreads == 0) {
      const int64_t partial = blockIdx.z * int64_t{gridDim.y} + blockIdx.y;
      partials[(blockIdx.x * int64_t{groups} + group) * (gridDim.y * gridDim.z) + partial] = total;
    }
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_STATISTICS_KERNELS_CUH_
