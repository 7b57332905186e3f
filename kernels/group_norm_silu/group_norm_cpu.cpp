// GroupNorm with optional SiLU on the CPU. Blocks of the input give partial moments, these give one
// mean, scale and shift per channel, and these give the output. The blocks depend only on the
// shape, so the result does not depend on the number of threads.
#include <algorithm>
#include <new>
#include <vector>

#include "group_norm_silu/normalization.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/statistics.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/parallel_for.h"
#include "tensor/shape.h"

namespace magvit {
namespace {

// Elements of one task. Blocks are merged pairwise, but a block's chunks are merged one after the
// other. With four times as many elements, the running mean loses one more digit on flat
// backgrounds.
constexpr int64_t kBlockElements = 16384;
constexpr int kLanes = 16;
constexpr int kRows = 8;

using Lanes = LaneMoments<kLanes>;

// One value for each (sample, channel).
struct Normalization {
  std::vector<float> mean, scale, shift;
};

Moments MergeRange(const Moments* moments, int64_t count) {
  if (count == 1) return moments[0];
  const int64_t half = count / 2;
  return Merge(MergeRange(moments, half), MergeRange(moments + half, count - half));
}

template <typename T>
Moments ContiguousMoments(const T* values, int64_t count) {
  constexpr int64_t kChunk = kRows * kLanes;
  Lanes lanes;
  int64_t i = 0;
  for (; i + kChunk <= count; i += kChunk) {
    float rows[kRows][kLanes];
    for (int64_t k = 0; k < kChunk; ++k) rows[k / kLanes][k % kLanes] = ToFloat(values[i + k]);
    lanes.Add(rows);
  }
  Moments total = lanes.Total();
  for (; i < count; ++i) total = Merge(total, {1.0f, ToFloat(values[i]), 0.0f});
  return total;
}

// Adds kCount positions of all channels; lanes beyond the last channel get zeros.
template <int kCount, typename T>
void AddPositions(const T* values, int64_t pitch, int64_t channels, std::vector<Lanes>& lanes) {
  for (int64_t first = 0; first < channels; first += kLanes) {
    const int64_t width = std::min<int64_t>(kLanes, channels - first);
    float rows[kCount][kLanes] = {};
    for (int row = 0; row < kCount; ++row) {
      for (int64_t lane = 0; lane < width; ++lane) {
        rows[row][lane] = ToFloat(values[row * pitch + first + lane]);
      }
    }
    lanes[first / kLanes].Add(rows);
  }
}

// Moments of each channel over `count` positions of a channels-last tensor.
template <typename T>
std::vector<Lanes> ChannelMoments(const T* values, int64_t pitch, int64_t channels, int64_t count) {
  std::vector<Lanes> lanes(DivideUp(channels, kLanes));
  int64_t i = 0;
  for (; i + kRows <= count; i += kRows) {
    AddPositions<kRows>(values + i * pitch, pitch, channels, lanes);
  }
  for (; i < count; ++i) AddPositions<1>(values + i * pitch, pitch, channels, lanes);
  return lanes;
}

template <typename T>
std::vector<Moments> ChannelsFirstStatistics(const T* input, const magvit_shape& shape,
                                             int64_t groups, int32_t threads) {
  const int64_t group_size = shape.channels / groups * shape.positions;
  const int64_t blocks = DivideUp(group_size, kBlockElements);
  std::vector<Moments> partials(shape.batch * groups * blocks);
  ParallelFor(partials.size(), threads, [&](int64_t task) {
    const int64_t begin = task % blocks * kBlockElements;
    const int64_t count = std::min(kBlockElements, group_size - begin);
    partials[task] = ContiguousMoments(input + task / blocks * group_size + begin, count);
  });

  std::vector<Moments> statistics(shape.batch * groups);
  for (size_t i = 0; i < statistics.size(); ++i) {
    statistics[i] = MergeRange(&partials[i * blocks], blocks);
  }
  return statistics;
}

template <typename T>
std::vector<Moments> ChannelsLastStatistics(const T* input, const magvit_shape& shape,
                                            int64_t groups, int32_t threads) {
  const int64_t pitch = ChannelPitch(shape);
  const int64_t group_channels = shape.channels / groups;
  const int64_t block_positions = std::max<int64_t>(kRows, kBlockElements / pitch);
  const int64_t blocks = DivideUp(shape.positions, block_positions);
  std::vector<Moments> partials(shape.batch * groups * blocks);
  ParallelFor(shape.batch * blocks, threads, [&](int64_t task) {
    const int64_t sample = task / blocks;
    const int64_t block = task % blocks;
    const int64_t begin = block * block_positions;
    const int64_t count = std::min(block_positions, shape.positions - begin);
    const std::vector<Lanes> lanes = ChannelMoments(
        input + (sample * shape.positions + begin) * pitch, pitch, shape.channels, count);
    for (int64_t group = 0; group < groups; ++group) {
      Moments total = {};
      for (int64_t i = 0; i < group_channels; ++i) {
        const int64_t channel = group * group_channels + i;
        total = Merge(total, lanes[channel / kLanes].Lane(channel % kLanes));
      }
      partials[(sample * groups + group) * blocks + block] = total;
    }
  });

  std::vector<Moments> statistics(shape.batch * groups);
  for (size_t i = 0; i < statistics.size(); ++i) {
    statistics[i] = MergeRange(&partials[i * blocks], blocks);
  }
  return statistics;
}

Normalization Prepare(const std::vector<Moments>& statistics, const magvit_shape& shape,
                      const magvit_group_norm_options& options) {
  const int64_t group_channels = shape.channels / options.num_groups;
  Normalization result;
  for (int64_t i = 0; i < shape.batch * shape.channels; ++i) {
    const Moments& group = statistics[i / group_channels];
    const int64_t affine =
        AffineIndex(options, shape.channels, i / shape.channels, i % shape.channels);
    const float inverse = InverseDeviation(group, options.epsilon);
    result.mean.push_back(group.mean);
    result.scale.push_back(options.weight ? options.weight[affine] * inverse : inverse);
    result.shift.push_back(options.bias ? options.bias[affine] : 0.0f);
  }
  return result;
}

template <magvit_activation kActivation, typename T>
void ApplyChannelsFirst(const T* input, const magvit_shape& shape,
                        const Normalization& normalization, T* output, int32_t threads) {
  const int64_t blocks = DivideUp(shape.positions, kBlockElements);
  ParallelFor(shape.batch * shape.channels * blocks, threads, [&](int64_t task) {
    const int64_t plane = task / blocks;
    const int64_t begin = plane * shape.positions + task % blocks * kBlockElements;
    const int64_t end = std::min(begin + kBlockElements, (plane + 1) * shape.positions);
    const float mean = normalization.mean[plane];
    const float scale = normalization.scale[plane];
    const float shift = normalization.shift[plane];
    for (int64_t i = begin; i < end; ++i) {
      const float y = Normalize(ToFloat(input[i]), mean, scale, shift);
      output[i] = FromFloat<T>(Activate(y, kActivation));
    }
  });
}

template <magvit_activation kActivation, typename T>
void ApplyChannelsLast(const T* input, const magvit_shape& shape,
                       const Normalization& normalization, T* output, int32_t threads) {
  const int64_t pitch = ChannelPitch(shape);
  const int64_t block_positions = std::max<int64_t>(1, kBlockElements / pitch);
  const int64_t blocks = DivideUp(shape.positions, block_positions);
  ParallelFor(shape.batch * blocks, threads, [&](int64_t task) {
    const int64_t sample = task / blocks;
    const int64_t begin = task % blocks * block_positions;
    const int64_t end = std::min(begin + block_positions, shape.positions);
    const float* mean = &normalization.mean[sample * shape.channels];
    const float* scale = &normalization.scale[sample * shape.channels];
    const float* shift = &normalization.shift[sample * shape.channels];
    for (int64_t position = begin; position < end; ++position) {
      const T* source = input + (sample * shape.positions + position) * pitch;
      T* target = output + (sample * shape.positions + position) * pitch;
      for (int64_t c = 0; c < shape.channels; ++c) {
        const float y = Normalize(ToFloat(source[c]), mean[c], scale[c], shift[c]);
        target[c] = FromFloat<T>(Activate(y, kActivation));
      }
      std::fill(target + shape.channels, target + pitch, FromFloat<T>(0.0f));
    }
  });
}

template <magvit_activation kActivation, typename T>
void Apply(const T* input, const magvit_shape& shape, const Normalization& normalization, T* output,
           int32_t threads) {
  if (shape.layout == MAGVIT_CHANNELS_FIRST) {
    ApplyChannelsFirst<kActivation>(input, shape, normalization, output, threads);
  } else {
    ApplyChannelsLast<kActivation>(input, shape, normalization, output, threads);
  }
}

template <typename T>
void GroupNorm(const T* input, const magvit_shape& shape, const magvit_group_norm_options& options,
               T* output, int32_t threads) {
  const std::vector<Moments> statistics =
      shape.layout == MAGVIT_CHANNELS_FIRST
          ? ChannelsFirstStatistics(input, shape, options.num_groups, threads)
          : ChannelsLastStatistics(input, shape, options.num_groups, threads);
  const Normalization normalization = Prepare(statistics, shape, options);
  if (options.activation == MAGVIT_SILU) {
    Apply<MAGVIT_SILU>(input, shape, normalization, output, threads);
  } else {
    Apply<MAGVIT_NO_ACTIVATION>(input, shape, normalization, output, threads);
  }
}

}  // namespace
}  // namespace magvit

magvit_status magvit_group_norm(const void* input, magvit_dtype dtype, magvit_shape shape,
                                const magvit_group_norm_options* options, void* output,
                                int32_t threads) try {
  if (options == nullptr) return MAGVIT_NULL_POINTER;
  const magvit_status status = magvit::CheckGroupNorm(dtype, shape, *options);
  if (status != MAGVIT_OK) return status;
  if (magvit::IsEmpty(shape)) return MAGVIT_OK;
  if (input == nullptr || output == nullptr) return MAGVIT_NULL_POINTER;

  if (dtype == MAGVIT_FLOAT32) {
    magvit::GroupNorm(static_cast<const float*>(input), shape, *options,
                      static_cast<float*>(output), threads);
  } else {
    magvit::GroupNorm(static_cast<const magvit::Half*>(input), shape, *options,
                      static_cast<magvit::Half*>(output), threads);
  }
  return MAGVIT_OK;
} catch (const std::bad_alloc&) {
  return MAGVIT_OUT_OF_MEMORY;
}
