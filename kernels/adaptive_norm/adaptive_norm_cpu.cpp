// GroupNorm of a map in place with a scale and a shift for each channel of the clip, and the
// moments of what it leaves, on the CPU.
//
// One pass over the map sums each channel in double, in a fixed number of chunks so that results
// don't depend on the number of threads; one writes. The moments that the next normalisation needs
// follow from the channels' sums.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "conv/pool.h"
#include "magvit/operators.h"

namespace magvit {
namespace {

constexpr int64_t kChunks = 64;

struct Range {
  int64_t first, last;
};

Range ChunkOf(int64_t index, int64_t positions) {
  return {index * positions / kChunks, (index + 1) * positions / kChunks};
}

// Of each channel, over all positions.
struct ChannelMoments {
  std::vector<double> mean, variance;
};

ChannelMoments Measure(const magvit_feature_map& map, int64_t positions, ThreadPool& threads) {
  const int64_t channels = map.channels;
  // Sums of differences from the first position, which keep a large mean out of the squares.
  std::vector<double> sums(kChunks * channels), squares(kChunks * channels);
  threads.Run(kChunks, [&](int64_t index, int32_t) {
    double* sum = sums.data() + index * channels;
    double* square = squares.data() + index * channels;
    const Range range = ChunkOf(index, positions);
    for (int64_t position = range.first; position < range.last; ++position) {
      const float* values = map.values + position * map.channel_pitch;
      for (int64_t channel = 0; channel < channels; ++channel) {
        const double difference = static_cast<double>(values[channel]) - map.values[channel];
        sum[channel] += difference;
        square[channel] += difference * difference;
      }
    }
  });
  ChannelMoments result = {std::vector<double>(channels), std::vector<double>(channels)};
  for (int64_t channel = 0; channel < channels; ++channel) {
    double sum = 0, square = 0;
    for (int64_t chunk = 0; chunk < kChunks; ++chunk) {
      sum += sums[chunk * channels + channel];
      square += squares[chunk * channels + channel];
    }
    const double mean = sum / positions;
    result.mean[channel] = map.values[channel] + mean;
    result.variance[channel] = std::max(0.0, square / positions - mean * mean);
  }
  return result;
}

// Mean and variance of `count` channels together, from `first` on.
void Combine(const ChannelMoments& channels, int64_t first, int64_t count, double* moments) {
  double mean = 0, variance = 0;
  for (int64_t i = first; i < first + count; ++i) mean += channels.mean[i] / count;
  for (int64_t i = first; i < first + count; ++i) {
    const double difference = channels.mean[i] - mean;
    variance += (channels.variance[i] + difference * difference) / count;
  }
  moments[0] = mean;
  moments[1] = variance;
}

void Run(const magvit_adaptive_norm_call& call, ThreadPool& threads) {
  const magvit_feature_map& map = *call.map;
  const int64_t positions = map.frames * map.height * map.width;
  const int64_t each = map.channels / call.groups;
  const auto lock = threads.Own();
  ChannelMoments channels = Measure(map, positions, threads);
  std::vector<float> means(map.channels), scales(map.channels);
  for (int64_t group = 0; group < call.groups; ++group) {
    double moments[2];
    Combine(channels, group * each, each, moments);
    const double deviation = std::sqrt(moments[1] + call.epsilon);
    for (int64_t i = group * each; i < (group + 1) * each; ++i) {
      const double scale = call.scale[i] / deviation;
      means[i] = static_cast<float>(moments[0]);
      scales[i] = static_cast<float>(scale);
      channels.mean[i] = (channels.mean[i] - moments[0]) * scale + call.shift[i];
      channels.variance[i] *= scale * scale;
    }
  }
  threads.Run(kChunks, [&](int64_t index, int32_t) {
    const Range range = ChunkOf(index, positions);
    for (int64_t position = range.first; position < range.last; ++position) {
      float* values = map.values + position * map.channel_pitch;
      for (int64_t i = 0; i < map.channels; ++i) {
        values[i] = (values[i] - means[i]) * scales[i] + call.shift[i];
      }
    }
  });
  if (call.moments == nullptr) return;
  for (int64_t group = 0; group < call.groups; ++group) {
    Combine(channels, group * each, each, call.moments + 2 * group);
  }
}

magvit_status Check(const magvit_adaptive_norm_call& call) {
  if (call.map == nullptr || call.map->values == nullptr || call.scale == nullptr ||
      call.shift == nullptr) {
    return MAGVIT_NULL_POINTER;
  }
  const magvit_feature_map& map = *call.map;
  if (map.first_frames != nullptr) return MAGVIT_BAD_BACKGROUND;
  if (map.frames < 1 || map.height < 1 || map.width < 1 || map.channels < 1 ||
      map.channel_pitch < map.channels) {
    return MAGVIT_BAD_SHAPE;
  }
  if (call.groups < 1 || map.channels % call.groups != 0) return MAGVIT_BAD_GROUPS;
  return MAGVIT_OK;
}

}  // namespace
}  // namespace magvit

magvit_status magvit_adaptive_norm_run(const magvit_adaptive_norm_call* call, magvit_pool* pool) {
  if (call == nullptr || pool == nullptr) return MAGVIT_NULL_POINTER;
  const magvit_status status = magvit::Check(*call);
  if (status != MAGVIT_OK) return status;
  try {
    magvit::Run(*call, pool->threads);
  } catch (const std::bad_alloc&) {
    return MAGVIT_OUT_OF_MEMORY;
  }
  return MAGVIT_OK;
}
