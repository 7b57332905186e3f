// Pixels to the first conv's input: from bytes to normalised values, with channels padded to a
// whole vector.
#include <algorithm>
#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"
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
    NormalizePixels(const uint8_t* frames, uint32_t positions, int channels, int64_t pitch,
                    float divisor, float offset, BorderedPlaces places, T* output) {
  WaitForPredecessor();
  T* clip = output + int64_t{blockIdx.x} * places.clip_size * pitch;
  uint32_t position = blockIdx.y * kThreads + threadIdx.x;
  for (; position < positions; position += gridDim.y * kThreads) {
    const uint8_t* pixel = frames + (int64_t{blockIdx.x} * positions + position) * channels;
    Vector<T, kMapVector> values = {};
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      if (i < channels) values.values[i] = FromFloat<T>(pixel[i] / divisor + offset);
    }
    StoreVector(values, clip + places.At(position) * pitch);
  }
}

template <typename T>
cudaError_t LaunchPixels(const uint8_t* frames, float divisor, float offset,
                         const magvit_cuda_map& output, cudaStream_t stream) {
  int64_t resident;
  const cudaError_t error = CountResidentBlocks(NormalizePixels<T>, kThreads, &resident);
  if (error != cudaSuccess) return error;
  const int64_t positions = Positions(output);
  const int64_t blocks =
      std::min(DivideUp(positions, kThreads), BlocksPerPart(output.batch, resident));
  const dim3 grid(static_cast<unsigned>(output.batch), static_cast<unsigned>(blocks));
  return Launch(NormalizePixels<T>, grid, kThreads, stream, frames,
                static_cast<uint32_t>(positions), static_cast<int>(output.channels), output.pitch,
                divisor, offset, PlacesOf(output), static_cast<T*>(output.data));
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_pixels(const uint8_t* frames, float divisor, float offset,
                           magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (frames == nullptr || !IsValid(output) || output.channels > kMapVector ||
      output.pitch != kMapVector) {
    return cudaErrorInvalidValue;
  }
  const auto queue = static_cast<cudaStream_t>(stream);
  const auto launch = output.dtype == MAGVIT_FLOAT32 ? LaunchPixels<float> : LaunchPixels<Half>;
  return launch(frames, divisor, offset, output, queue);
}
