// What an adaptive norm takes for a clip's scale and shift: linear layers of the spread and of the
// mean of the channels of another map. That map is a decoder's codes, of some 1,300 positions, so
// one block a clip reads it in a few microseconds.
#include <cstdint>
#include <limits>
#include <type_traits>

#include "adaptive_norm/channel_statistics.h"
#include "cuda_operators/map_views.h"
#include "group_norm_silu/finish.cuh"
#include "group_norm_silu/statistics.h"
#include "magvit/cuda_operators.h"
#include "tensor/launch.cuh"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

// Of a block: its threads are columns of vectors times rows of positions.
constexpr int kMostChannels = 256;

// Grid: (samples).
template <typename T>
__global__ void __launch_bounds__(kPassThreads)
    LinearOfStatistics(PackedView<const T> map, magvit_cuda_channel_statistic scale,
                       magvit_cuda_channel_statistic shift, int outputs) {
  __shared__ float counts[kPassThreads];
  __shared__ float means[kPassThreads * kMapVector];
  __shared__ float deviations[kPassThreads * kMapVector];
  __shared__ Moments moments[kMostChannels];
  __shared__ float values[kMostChannels];
  WaitForPredecessor();
  const int columns = static_cast<int>(map.pitch) / kMapVector;
  const int rows = kPassThreads / columns;
  const int thread = threadIdx.x;
  const int row = thread / columns;
  LaneMoments<kMapVector> lanes;
  for (int64_t position = row; row < rows && position < map.positions; position += rows) {
    float single[1][kMapVector];
    LoadFloats<kMapVector>(
        map.At(blockIdx.x, static_cast<uint32_t>(position), thread % columns * kMapVector),
        single[0]);
    lanes.Add(single);
  }
  counts[thread] = lanes.count;
#pragma unroll
  for (int i = 0; i < kMapVector; ++i) {
    means[thread * kMapVector + i] = lanes.mean[i];
    deviations[thread * kMapVector + i] = lanes.deviations[i];
  }
  __syncthreads();

  // A warp for each channel.
  const int lane = thread % kWarpThreads;
  for (int channel = thread / kWarpThreads; channel < map.channels; channel += kPassWarps) {
    Moments total = {};
    for (int i = lane; i < rows; i += kWarpThreads) {
      const int of = i * columns + channel / kMapVector;
      const int entry = of * kMapVector + channel % kMapVector;
      total = Merge(total, {counts[of], means[entry], deviations[entry]});
    }
    total = MergeWarp(total);
    if (lane == 0) moments[channel] = total;
  }

  const magvit_cuda_channel_statistic wanted[] = {scale, shift};
  for (const magvit_cuda_channel_statistic& statistic : wanted) {
    if (statistic.weight == nullptr) continue;
    __syncthreads();
    if (thread < map.channels) {
      const Moments& of = moments[thread];
      values[thread] = statistic.is_spread ? Spread(of, statistic.epsilon) : of.mean;
    }
    __syncthreads();
    for (int output = thread; output < outputs; output += kPassThreads) {
      const float* weight = statistic.weight + int64_t{output} * map.channels;
      float sum = 0.0f;
      for (int channel = 0; channel < map.channels; ++channel) {
        sum += weight[channel] * values[channel];
      }
      statistic.vectors[int64_t{blockIdx.x} * outputs + output] = sum + statistic.bias[output];
    }
  }
}

bool IsComplete(const magvit_cuda_channel_statistic& statistic) {
  if (statistic.weight == nullptr) return true;
  return statistic.bias != nullptr && statistic.vectors != nullptr && statistic.epsilon >= 0.0f;
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_channel_vectors(magvit_cuda_map map, magvit_cuda_channel_statistic scale,
                                    magvit_cuda_channel_statistic shift, int64_t outputs,
                                    void* stream) {
  using namespace magvit;
  constexpr int64_t kMostOutputs = std::numeric_limits<int32_t>::max() - kPassThreads;
  if (!IsValid(map) || HasBorder(map) || map.channels > kMostChannels ||
      map.pitch > kMostChannels || outputs < 1 || outputs > kMostOutputs || !IsComplete(scale) ||
      !IsComplete(shift)) {
    return cudaErrorInvalidValue;
  }
  return WithType(map.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return Launch(LinearOfStatistics<T>, dim3(static_cast<unsigned>(map.batch)), kPassThreads,
                  static_cast<cudaStream_t>(stream), PackedViewOf<const T>(map), scale, shift,
                  static_cast<int>(outputs));
  });
}
