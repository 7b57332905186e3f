// LFQ on the GPU. In channels-first, a thread makes the ids of a few neighbouring positions, so
// that each of its reads is 16 bytes of one channel. In channels-last, a thread makes one id from
// the position's vectors of channels.
#include "lfq/lfq.h"
#include "lfq/lfq_cuda.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

constexpr int kThreads = 128;

__device__ void StorePacked(int32_t id, int channels, int64_t position, uint8_t* packed) {
  const int bytes = PackedBytes(channels);
  for (int byte = 0; byte < bytes; ++byte) {
    packed[position * bytes + byte] = PackedByte(id, byte);
  }
}

// Requires positions % kVector == 0, so that no vector spans two samples.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads)
    QuantizeChannelsFirst(const T* latents, int channels, int64_t positions, int64_t total,
                          int32_t* ids, uint8_t* packed) {
  WaitForPredecessor();
  const int64_t first = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kVector;
  if (first >= total) return;
  const int64_t sample = first / positions;
  const T* source = latents + sample * channels * positions + (first - sample * positions);

  Vector<int32_t, kVector> result = {};
  for (int channel = 0; channel < channels; ++channel) {
    const Vector<T, kVector> plane = LoadVector<kVector>(source + channel * positions);
#pragma unroll
    for (int i = 0; i < kVector; ++i) result.values[i] |= LfqBit(plane.values[i]) << channel;
  }
  StoreVector(result, ids + first);
  if (packed != nullptr) {
    for (int i = 0; i < kVector; ++i) StorePacked(result.values[i], channels, first + i, packed);
  }
}

// Requires pitch % kVector == 0; the bits of padding channels are dropped.
template <typename T, int kVector>
__global__ void __launch_bounds__(kThreads)
    QuantizeChannelsLast(const T* latents, int channels, int64_t pitch, int64_t total, int32_t* ids,
                         uint8_t* packed) {
  WaitForPredecessor();
  const int64_t position = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (position >= total) return;

  int32_t id = 0;
  for (int channel = 0; channel < channels; channel += kVector) {
    const Vector<T, kVector> vector = LoadVector<kVector>(latents + position * pitch + channel);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (channel + i < channels) id |= LfqBit(vector.values[i]) << (channel + i);
    }
  }
  ids[position] = id;
  if (packed != nullptr) StorePacked(id, channels, position, packed);
}

template <typename T, int kVector>
cudaError_t LaunchQuantize(const T* latents, const magvit_shape& shape, int32_t* ids,
                           uint8_t* packed, cudaStream_t stream) {
  const int channels = static_cast<int>(shape.channels);
  const int64_t total = shape.batch * shape.positions;
  if (shape.layout == MAGVIT_CHANNELS_FIRST) {
    const auto blocks = static_cast<unsigned>(DivideUp(total, int64_t{kThreads} * kVector));
    return Launch(QuantizeChannelsFirst<T, kVector>, blocks, kThreads, stream, latents, channels,
                  shape.positions, total, ids, packed);
  }
  const auto blocks = static_cast<unsigned>(DivideUp(total, kThreads));
  return Launch(QuantizeChannelsLast<T, kVector>, blocks, kThreads, stream, latents, channels,
                ChannelPitch(shape), total, ids, packed);
}

template <typename T>
cudaError_t LaunchWidest(const void* latents, const magvit_shape& shape, int32_t* ids,
                         uint8_t* packed, cudaStream_t stream) {
  constexpr int kVector = kWidestVector<T>;
  const int64_t row = shape.layout == MAGVIT_CHANNELS_FIRST ? shape.positions : ChannelPitch(shape);
  const bool aligned =
      IsAligned(latents, 16) && IsAligned(ids, sizeof(int32_t) * kVector) && row % kVector == 0;
  const auto launch = aligned ? LaunchQuantize<T, kVector> : LaunchQuantize<T, 1>;
  return launch(static_cast<const T*>(latents), shape, ids, packed, stream);
}

}  // namespace

cudaError_t LaunchLfq(const void* latents, magvit_dtype dtype, const magvit_shape& shape,
                      int32_t* ids, uint8_t* packed, cudaStream_t stream) {
  if (CheckTensor(dtype, shape) != MAGVIT_OK || shape.channels > kMaxLfqChannels) {
    return cudaErrorInvalidValue;
  }
  if (IsEmpty(shape)) return cudaSuccess;

  const auto launch = dtype == MAGVIT_FLOAT32 ? LaunchWidest<float> : LaunchWidest<Half>;
  return launch(latents, shape, ids, packed, stream);
}

}  // namespace magvit
