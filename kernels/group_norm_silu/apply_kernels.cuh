// The second pass of GroupNorm on the GPU: merged partials to one mean, scale and shift a channel,
// and with these the input to the output.
#ifndef MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_
#define MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_

#include <cstdint>

#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/normalization.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/statistics_kernels.cuh"
#include "tensor/vector_access.cuh"

namespace magvit {

constexpr int kFinishThreads = 128;
constexpr int kApplyThreads = 256;

// One value for each (sample, channel). All null: values stay as they are.
struct NormalizationView {
  float* mean;
  float* scale;
  float* shift;
};

// Grid: samples * groups.
static __global__ void __launch_bounds__(kFinishThreads)
    FinishStatistics(const Moments* partials, int64_t partial_count,
                     magvit_group_norm_options options, int channels,
                     NormalizationView normalization) {
  __shared__ Moments group_moments;
  const Moments* group_partials = partials + blockIdx.x * partial_count;
  Moments total = {};
  for (int64_t i = threadIdx.x; i < partial_count; i += kFinishThreads) {
    total = Merge(total, group_partials[i]);
  }
  total = MergeBlock<kFinishThreads>(total);
  if (threadIdx.x == 0) group_moments = total;
  __syncthreads();

  const int groups = static_cast<int>(options.num_groups);
  const int sample = blockIdx.x / groups;
  const int group = blockIdx.x % groups;
  const int group_channels = channels / groups;
  const float inverse = InverseDeviation(group_moments, options.epsilon);
  for (int i = threadIdx.x; i < group_channels; i += kFinishThreads) {
    const int channel = group * group_channels + i;
    const int64_t affine = AffineIndex(options, channels, sample, channel);
    const int64_t index = int64_t{sample} * channels + channel;
    normalization.mean[index] = group_moments.mean;
    normalization.scale[index] =
        options.weight != nullptr ? options.weight[affine] * inverse : inverse;
    normalization.shift[index] = options.bias != nullptr ? options.bias[affine] : 0.0f;
  }
}

// Channels-first, positions % kVector == 0. Grid: (samples * channels, blocks of positions).
template <typename T, int kVector>
__global__ void __launch_bounds__(kApplyThreads)
    ApplyChannelsFirst(const T* input, int64_t positions, NormalizationView normalization,
                       magvit_activation activation, T* output) {
  const float mean = normalization.mean[blockIdx.x];
  const float scale = normalization.scale[blockIdx.x];
  const float shift = normalization.shift[blockIdx.x];
  const int64_t plane = blockIdx.x * positions;
  const int64_t stride = int64_t{gridDim.y} * kApplyThreads * kVector;
  int64_t position = (blockIdx.y * int64_t{kApplyThreads} + threadIdx.x) * kVector;
  for (; position < positions; position += stride) {
    float x[kVector];
    LoadFloats<kVector>(input + plane + position, x);
    Vector<T, kVector> y;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      y.values[i] = FromFloat<T>(Activate(Normalize(x[i], mean, scale, shift), activation));
    }
    StoreVector(y, output + plane + position);
  }
}

// Channels-last, pitch % Source::kWidth == 0; padding channels become zero. Grid: (samples, blocks
// of positions, column tiles over the whole pitch).
template <typename Source, typename Places, typename TOut>
__global__ void __launch_bounds__(kApplyThreads)
    ApplyChannelsLast(Source source, int64_t positions, int channels, int64_t pitch,
                      ColumnTile tile, int64_t block_length, NormalizationView normalization,
                      magvit_activation activation, Places places, TOut* output) {
  constexpr int kVector = Source::kWidth;
  const int row = threadIdx.x / tile.columns;
  const int64_t channel =
      (blockIdx.z * int64_t{tile.columns} + threadIdx.x % tile.columns) * kVector;
  if (row >= tile.rows || channel >= pitch) return;

  const auto constants = source.ForChannels(static_cast<int>(channel), channels);
  const bool normalizes = normalization.mean != nullptr;
  float mean[kVector], scale[kVector], shift[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const bool known = normalizes && channel + i < channels;
    const int64_t index = blockIdx.x * int64_t{channels} + channel + i;
    mean[i] = known ? normalization.mean[index] : 0.0f;
    scale[i] = known ? normalization.scale[index] : 1.0f;
    shift[i] = known ? normalization.shift[index] : 0.0f;
  }

  const int64_t end = min((blockIdx.y + 1) * block_length, positions);
  for (int64_t first = blockIdx.y * block_length + row; first < end; first += kBatch * tile.rows) {
    const int64_t offset = (blockIdx.x * positions + first) * pitch + channel;
    typename Source::Fetched fetched[kBatch] = {};
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * tile.rows < end) fetched[k] = source.Fetch(offset + k * tile.rows * pitch);
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * tile.rows >= end) break;
      const auto x = source.Value(fetched[k], constants);
      Vector<TOut, kVector> y;
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float normalized = Normalize(ToFloat(x.values[i]), mean[i], scale[i], shift[i]);
        // Not by a zero scale: padding may hold NaN.
        y.values[i] =
            FromFloat<TOut>(channel + i < channels ? Activate(normalized, activation) : 0.0f);
      }
      StoreVector(y, output + places.At(blockIdx.x, first + k * tile.rows) * pitch + channel);
    }
  }
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_APPLY_KERNELS_CUH_
