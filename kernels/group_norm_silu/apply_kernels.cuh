// The second pass of GroupNorm on the GPU: it makes the output from the input and one mean, scale
// and shift per channel. It also writes a conv's input if nothing is normalised.
#ifndef MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_
#define MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_

#include <cstdint>

#include "group_norm_silu/block_plans.h"
#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/finish.cuh"
#include "group_norm_silu/normalization.h"
#include "tensor/launch.cuh"
#include "tensor/vector_access.cuh"

namespace magvit {

// Leaves channels-last values unchanged. Padding channels, which may hold NaN, become zero.
struct Unchanged {
  template <int kVector>
  struct Constants {
    int channels;  // that are left from the vector's first on
    __device__ float Of(int lane, float x) const { return lane < channels ? x : 0.0f; }
  };

  int channels;

  template <int kVector>
  __device__ Constants<kVector> ForChannels(int64_t, int first) const {
    return {channels - first};
  }
};

// Normalises and activates channels-last values. kFull: there are no padding channels, so no code
// handles them.
template <magvit_activation kActivation, bool kFull>
struct Normalized {
  template <int kVector>
  struct Constants {
    int channels;
    float mean[kVector], scale[kVector], shift[kVector];
    __device__ float Of(int lane, float x) const {
      const float y = Activate(Normalize(x, mean[lane], scale[lane], shift[lane]), kActivation);
      return kFull || lane < channels ? y : 0.0f;
    }
  };

  NormalizationView normalization;
  int channels;

  template <int kVector>
  __device__ Constants<kVector> ForChannels(int64_t sample, int first) const {
    Constants<kVector> constants = {};
    constants.channels = channels - first;
    if (!kFull && first >= channels) return constants;
    const int64_t index = sample * normalization.row + first;
    LoadFloats<kVector>(normalization.mean + index, constants.mean);
    LoadFloats<kVector>(normalization.scale + index, constants.scale);
    LoadFloats<kVector>(normalization.shift + index, constants.shift);
    return constants;
  }
};

// Channels-first, positions % kVector == 0. Grid: (samples * channels, blocks of positions).
template <typename T, int kVector, magvit_activation kActivation>
__global__ void __launch_bounds__(kPassThreads, kPassBlocks)
    ApplyChannelsFirst(const T* input, int64_t positions, int channels,
                       NormalizationView normalization, T* output) {
  WaitForPredecessor();
  const int64_t index = blockIdx.x / channels * normalization.row + blockIdx.x % channels;
  const float mean = normalization.mean[index];
  const float scale = normalization.scale[index];
  const float shift = normalization.shift[index];
  const int64_t plane = blockIdx.x * positions;
  const int64_t stride = int64_t{gridDim.y} * kPassThreads * kVector;
  int64_t position = (blockIdx.y * int64_t{kPassThreads} + threadIdx.x) * kVector;
  for (; position < positions; position += stride) {
    float x[kVector];
    LoadFloats<kVector>(input + plane + position, x);
    Vector<T, kVector> y;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      y.values[i] = FromFloat<T>(Activate(Normalize(x[i], mean, scale, shift), kActivation));
    }
    StoreVector(y, output + plane + position);
  }
}

// The state of a thread of ApplyChannelsLast, without its rows.
template <typename Source, typename Change, typename Places, typename TOut>
struct ChannelsLastColumn {
  static constexpr int kBatch = Source::kBatch;

  Source source;
  typename Source::Constants constants;
  typename Change::template Constants<Source::kWidth> change;
  Places places;
  TOut* output;
  int64_t input, pitch;  // where in the source the clip begins; elements of a position
  int rows;

  // Reads, changes and writes a batch of positions, `rows` apart; unless kAll, only those before
  // `end`.
  template <bool kAll>
  __device__ __forceinline__ void Write(uint32_t first, uint32_t end) const {
    const int64_t offset = input + first * pitch;
    typename Source::Fetched fetched[kBatch] = {};
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (kAll || first + k * rows < end) fetched[k] = source.Fetch(offset + k * rows * pitch);
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const uint32_t position = first + k * rows;
      if (!kAll && position >= end) return;
      const auto x = source.Value(fetched[k], constants);
      Vector<TOut, Source::kWidth> y;
#pragma unroll
      for (int i = 0; i < Source::kWidth; ++i) {
        y.values[i] = FromFloat<TOut>(change.Of(i, ToFloat(x.values[i])));
      }
      StoreVector(y, output + places.At(position) * pitch);
    }
  }
};

// Channels-last, pitch % Source::kWidth == 0. Grid: (samples, blocks of positions, column tiles
// over the whole pitch). The blocks work side by side from the map's beginning, which the
// statistics pass read last.
template <typename Source, typename Change, typename Places, typename TOut>
__global__ void __launch_bounds__(kPassThreads, sizeof(TOut) == 2 ? kPassBlocks : kWideApplyBlocks)
    ApplyChannelsLast(Source source, uint32_t positions, int channels, int64_t pitch,
                      ColumnTile tile, Change change, Places places, TOut* output) {
  WaitForPredecessor();
  constexpr int kVector = Source::kWidth;
  constexpr uint32_t kBatch = Source::kBatch;
  const int row = threadIdx.x / tile.columns;
  const int channel = (blockIdx.z * tile.columns + threadIdx.x % tile.columns) * kVector;
  if (row >= tile.rows || channel >= pitch) return;

  const auto sample = int64_t{blockIdx.x};
  const ChannelsLastColumn<Source, Change, Places, TOut> column = {
      source,
      source.ForChannels(channel, channels),
      change.template ForChannels<kVector>(sample, channel),
      places,
      output + sample * places.clip_size * pitch + channel,
      sample * positions * pitch + channel,
      pitch,
      tile.rows};
  const uint32_t step = kBatch * tile.rows;
  const uint32_t steps = positions / step;
  for (uint32_t i = blockIdx.y; i < steps; i += gridDim.y) {
    column.template Write<true>(i * step + row, positions);
  }
  if (blockIdx.y == gridDim.y - 1) column.template Write<false>(steps * step + row, positions);
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_
