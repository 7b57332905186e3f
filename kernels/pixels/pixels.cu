// Pixels to the first conv's input: from bytes to normalised values, with channels padded to a
// whole vector.
#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

constexpr int kThreads = 256;

// One thread a position; all channels are in the position's first vector. Grid: (samples, blocks of
// positions).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    NormalizePixels(const uint8_t* frames, int64_t positions, int channels, int64_t pitch,
                    float divisor, float offset, BorderedPlaces places, T* output) {
  const int64_t stride = int64_t{gridDim.y} * kThreads;
  int64_t position = blockIdx.y * int64_t{kThreads} + threadIdx.x;
  for (; position < positions; position += stride) {
    const uint8_t* pixel = frames + (blockIdx.x * positions + position) * channels;
    Vector<T, kMapVector> values = {};
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      if (i < channels) values.values[i] = FromFloat<T>(pixel[i] / divisor + offset);
    }
    StoreVector(values, output + places.At(blockIdx.x, position) * pitch);
  }
}

constexpr int64_t kBlocks = 2048;

template <typename T>
void Launch(const uint8_t* frames, float divisor, float offset, const magvit_cuda_map& output,
            cudaStream_t stream) {
  const int64_t positions = Positions(output);
  const int64_t steps = DivideUp(positions, kThreads);
  const dim3 grid(static_cast<unsigned>(output.batch),
                  static_cast<unsigned>(steps < kBlocks ? steps : kBlocks));
  NormalizePixels<T><<<grid, kThreads, 0, stream>>>(
      frames, positions, static_cast<int>(output.channels), output.pitch, divisor, offset,
      PlacesOf(output), static_cast<T*>(output.data));
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
  if (output.dtype == MAGVIT_FLOAT32) {
    Launch<float>(frames, divisor, offset, output, queue);
  } else {
    Launch<Half>(frames, divisor, offset, output, queue);
  }
  return cudaGetLastError();
}
