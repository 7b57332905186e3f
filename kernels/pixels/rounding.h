// The last step of a decoder: from a value to a byte.
#ifndef MAGVIT_PIXELS_ROUNDING_H_
#define MAGVIT_PIXELS_ROUNDING_H_

#include <cmath>
#include <cstdint>

#include "magvit/cuda_operators.h"
#include "tensor/host_device.h"

namespace magvit {

// A GPU would round the product and the sum at once, and so some values to the next byte.
MAGVIT_HOST_DEVICE float ScaleAndAdd(float value, float scale, float added) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(__fmul_rn(value, scale), added);
#else
  return value * scale + added;
#endif
}

// floor((clip(value) + offset) * scale + rounding), within a byte. A NaN counts as the lowest
// value.
MAGVIT_HOST_DEVICE uint8_t ByteOf(float value, const magvit_cuda_rounding& rule) {
  const float clipped = fminf(fmaxf(value, rule.low), rule.high);
  const float level = floorf(ScaleAndAdd(clipped + rule.offset, rule.scale, rule.rounding));
  return static_cast<uint8_t>(fminf(fmaxf(level, 0.0f), 255.0f));
}

}  // namespace magvit

#endif  // MAGVIT_PIXELS_ROUNDING_H_
