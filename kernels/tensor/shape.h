// The checks of both operators on a `magvit_shape`, on the CPU, in CUDA launchers and in plugins.
#ifndef MAGVIT_TENSOR_SHAPE_H_
#define MAGVIT_TENSOR_SHAPE_H_

#include <cstdint>

#include "magvit/operators.h"
#include "tensor/host_device.h"

namespace magvit {

MAGVIT_HOST_DEVICE int64_t DivideUp(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

inline int64_t ChannelPitch(const magvit_shape& shape) {
  return shape.channel_pitch == 0 ? shape.channels : shape.channel_pitch;
}

inline magvit_status CheckTensor(magvit_dtype dtype, const magvit_shape& shape) {
  if (dtype != MAGVIT_FLOAT32 && dtype != MAGVIT_FLOAT16) return MAGVIT_BAD_ENUM;
  if (shape.layout != MAGVIT_CHANNELS_FIRST && shape.layout != MAGVIT_CHANNELS_LAST) {
    return MAGVIT_BAD_ENUM;
  }
  if (shape.batch < 0 || shape.channels < 1 || shape.positions < 0) return MAGVIT_BAD_SHAPE;
  if (shape.layout == MAGVIT_CHANNELS_LAST && ChannelPitch(shape) < shape.channels) {
    return MAGVIT_BAD_SHAPE;
  }
  return MAGVIT_OK;
}

inline bool IsEmpty(const magvit_shape& shape) { return shape.batch == 0 || shape.positions == 0; }

}  // namespace magvit

#endif  // MAGVIT_TENSOR_SHAPE_H_
