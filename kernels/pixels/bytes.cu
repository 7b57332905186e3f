// A decoder's last map to bytes.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_views.h"
#include "magvit/cuda_operators.h"
#include "pixels/rounding.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"
#include "tensor/waves.h"

namespace magvit {
namespace {

constexpr int kThreads = 256;

// One thread per position; all channels are in the position's first vector. Grid: (samples, blocks
// of positions).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    RoundToBytes(PackedView<const T> features, const float* bias, magvit_cuda_rounding rule,
                 uint8_t* frames) {
  WaitForPredecessor();
  float added[kMapVector] = {};
  for (int i = 0; i < features.channels && bias != nullptr; ++i) added[i] = bias[i];
  const auto positions = static_cast<uint32_t>(features.positions);
  uint32_t position = blockIdx.y * kThreads + threadIdx.x;
  for (; position < positions; position += gridDim.y * kThreads) {
    float values[kMapVector];
    LoadFloats<kMapVector>(features.At(blockIdx.x, position, 0), values);
    uint8_t* pixel =
        frames + (int64_t{blockIdx.x} * features.positions + position) * features.channels;
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      if (i < features.channels) pixel[i] = ByteOf(values[i] + added[i], rule);
    }
  }
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_bytes(magvit_cuda_map features, const float* bias, magvit_cuda_rounding rule,
                          uint8_t* frames, void* stream) {
  using namespace magvit;
  if (frames == nullptr || !IsValid(features) || HasBorder(features) ||
      features.channels > kMapVector) {
    return cudaErrorInvalidValue;
  }
  return WithType(features.dtype, [&](auto* element) -> cudaError_t {
    using T = std::remove_pointer_t<decltype(element)>;
    int64_t resident;
    const cudaError_t error = CountResidentBlocks(RoundToBytes<T>, kThreads, &resident);
    if (error != cudaSuccess) return error;
    const int64_t blocks =
        std::min(DivideUp(Positions(features), kThreads), BlocksPerPart(features.batch, resident));
    const dim3 grid(static_cast<unsigned>(features.batch), static_cast<unsigned>(blocks));
    return Launch(RoundToBytes<T>, grid, kThreads, static_cast<cudaStream_t>(stream),
                  PackedViewOf<const T>(features), bias, rule, frames);
  });
}
