// A channels-last map to float32 in channels-first order, as callers get maps.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_views.h"
#include "magvit/cuda_operators.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"

namespace magvit {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kBlocks = 1024;

// Grid: (samples, blocks of positions). Writes are contiguous, reads are a pitch apart; this is
// fast enough, because the maps that callers ask for are small.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    ToChannelsFirst(PackedView<const T> map, float* output) {
  WaitForPredecessor();
  const int64_t stride = int64_t{gridDim.y} * kThreads;
  int64_t position = blockIdx.y * int64_t{kThreads} + threadIdx.x;
  for (; position < map.positions; position += stride) {
    const T* source = map.At(blockIdx.x, static_cast<uint32_t>(position), 0);
    float* target = output + int64_t{blockIdx.x} * map.channels * map.positions + position;
    for (int channel = 0; channel < map.channels; ++channel) {
      target[channel * map.positions] = ToFloat(source[channel]);
    }
  }
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_channels_first(magvit_cuda_map features, float* output, void* stream) {
  using namespace magvit;
  if (output == nullptr || !IsValid(features) || HasBorder(features)) return cudaErrorInvalidValue;
  const int64_t blocks = std::min(DivideUp(Positions(features), kThreads), kBlocks);
  const dim3 grid(static_cast<unsigned>(features.batch), static_cast<unsigned>(blocks));
  return WithType(features.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    return Launch(ToChannelsFirst<T>, grid, kThreads, static_cast<cudaStream_t>(stream),
                  PackedViewOf<const T>(features), output);
  });
}
