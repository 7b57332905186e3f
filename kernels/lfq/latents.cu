// Channels-last latents to token ids and, for comparisons, to float32 in channels-first order.
#include <algorithm>
#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "lfq/lfq_cuda.h"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"

namespace magvit {
namespace {

constexpr int kThreads = 128;

// Grid: (samples, blocks of positions). Writes are contiguous, reads are a pitch apart; this is
// fast enough, because latents are small.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    ToChannelsFirst(const T* latents, int64_t positions, int channels, int64_t pitch,
                    float* output) {
  WaitForPredecessor();
  const int64_t stride = int64_t{gridDim.y} * kThreads;
  int64_t position = blockIdx.y * int64_t{kThreads} + threadIdx.x;
  for (; position < positions; position += stride) {
    const T* source = latents + (blockIdx.x * positions + position) * pitch;
    float* target = output + blockIdx.x * channels * positions + position;
    for (int channel = 0; channel < channels; ++channel) {
      target[channel * positions] = ToFloat(source[channel]);
    }
  }
}

constexpr int64_t kBlocks = 1024;

template <typename T>
cudaError_t LaunchToChannelsFirst(const magvit_cuda_map& latents, float* output,
                                  cudaStream_t stream) {
  const int64_t positions = Positions(latents);
  const dim3 grid(static_cast<unsigned>(latents.batch),
                  static_cast<unsigned>(std::min(DivideUp(positions, kThreads), kBlocks)));
  return Launch(ToChannelsFirst<T>, grid, kThreads, stream, static_cast<const T*>(latents.data),
                positions, static_cast<int>(latents.channels), latents.pitch, output);
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_lfq(magvit_cuda_map latents, int32_t* ids, float* channels_first,
                        void* stream) {
  using namespace magvit;
  if (ids == nullptr || !IsValid(latents) || HasBorder(latents)) return cudaErrorInvalidValue;
  const auto queue = static_cast<cudaStream_t>(stream);
  const cudaError_t error =
      LaunchLfq(latents.data, latents.dtype, AsShape(latents), ids, nullptr, queue);
  if (error != cudaSuccess || channels_first == nullptr) return error;

  const auto launch =
      latents.dtype == MAGVIT_FLOAT32 ? LaunchToChannelsFirst<float> : LaunchToChannelsFirst<Half>;
  return launch(latents, channels_first, queue);
}
