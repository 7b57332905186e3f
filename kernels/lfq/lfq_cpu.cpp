// LFQ on the CPU, for both layouts.
#include "lfq/lfq.h"

#include <algorithm>

#include "magvit/operators.h"
#include "tensor/parallel_for.h"
#include "tensor/shape.h"

namespace magvit {
namespace {

// Positions of one task: their ids stay in the first-level cache while the channels pass.
constexpr int64_t kBlockPositions = 2048;

template <typename T>
void QuantizeChannelsFirst(const T* latents, int channels, int64_t channel_stride, int64_t count,
                           int32_t* ids) {
  std::fill_n(ids, count, 0);
  for (int channel = 0; channel < channels; ++channel) {
    const T* plane = latents + channel * channel_stride;
    for (int64_t i = 0; i < count; ++i) ids[i] |= LfqBit(plane[i]) << channel;
  }
}

template <typename T>
void QuantizeChannelsLast(const T* latents, int channels, int64_t pitch, int64_t count,
                          int32_t* ids) {
  for (int64_t i = 0; i < count; ++i) {
    int32_t id = 0;
    for (int channel = 0; channel < channels; ++channel) {
      id |= LfqBit(latents[i * pitch + channel]) << channel;
    }
    ids[i] = id;
  }
}

void Pack(const int32_t* ids, int channels, int64_t count, uint8_t* packed) {
  const int bytes = PackedBytes(channels);
  for (int64_t i = 0; i < count; ++i) {
    for (int byte = 0; byte < bytes; ++byte) packed[i * bytes + byte] = PackedByte(ids[i], byte);
  }
}

template <typename T>
void Quantize(const T* latents, const magvit_shape& shape, int32_t* ids, uint8_t* packed,
              int32_t threads) {
  const int channels = static_cast<int>(shape.channels);
  const int64_t blocks = DivideUp(shape.positions, kBlockPositions);
  ParallelFor(shape.batch * blocks, threads, [&](int64_t task) {
    const int64_t sample = task / blocks;
    const int64_t begin = task % blocks * kBlockPositions;
    const int64_t count = std::min(kBlockPositions, shape.positions - begin);
    const int64_t first = sample * shape.positions + begin;
    if (shape.layout == MAGVIT_CHANNELS_FIRST) {
      const T* source = latents + sample * channels * shape.positions + begin;
      QuantizeChannelsFirst(source, channels, shape.positions, count, ids + first);
    } else {
      const int64_t pitch = ChannelPitch(shape);
      QuantizeChannelsLast(latents + first * pitch, channels, pitch, count, ids + first);
    }
    if (packed != nullptr) {
      Pack(ids + first, channels, count, packed + first * PackedBytes(channels));
    }
  });
}

}  // namespace
}  // namespace magvit

magvit_status magvit_lfq(const void* latents, magvit_dtype dtype, magvit_shape shape, int32_t* ids,
                         uint8_t* packed, int32_t threads) {
  const magvit_status status = magvit::CheckTensor(dtype, shape);
  if (status != MAGVIT_OK) return status;
  if (shape.channels > magvit::kMaxLfqChannels) return MAGVIT_BAD_CHANNELS;
  if (magvit::IsEmpty(shape)) return MAGVIT_OK;
  if (latents == nullptr || ids == nullptr) return MAGVIT_NULL_POINTER;

  if (dtype == MAGVIT_FLOAT32) {
    magvit::Quantize(static_cast<const float*>(latents), shape, ids, packed, threads);
  } else {
    magvit::Quantize(static_cast<const magvit::Half*>(latents), shape, ids, packed, threads);
  }
  return MAGVIT_OK;
}
