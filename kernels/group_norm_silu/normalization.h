// GroupNorm of one element with known statistics, and SiLU.
#ifndef MAGVIT_GROUP_NORM_SILU_NORMALIZATION_H_
#define MAGVIT_GROUP_NORM_SILU_NORMALIZATION_H_

#include <cmath>

#include "group_norm_silu/statistics.h"
#include "magvit/operators.h"
#include "tensor/exponential.h"
#include "tensor/host_device.h"

namespace magvit {

// y * sigmoid(y), by way of e^-|y|, which can't overflow.
// Source: S. Elfwing et al., "Sigmoid-Weighted Linear Units" (2017).
MAGVIT_HOST_DEVICE float Silu(float y) {
  const float decay = DecayingExponential(y);
  const float numerator = y < 0.0f ? y * decay : y;
#ifdef __CUDA_ARCH__
  return __fdividef(numerator, 1.0f + decay);
#else
  return numerator / (1.0f + decay);
#endif
}

// 1 / sqrt(variance + epsilon), with the population variance.
MAGVIT_HOST_DEVICE float InverseDeviation(const Moments& group, float epsilon) {
  return 1.0f / sqrtf(group.deviations / group.count + epsilon);
}

// The mean is subtracted first. Folded into the shift, it would lose the digits that the statistics
// kept wherever mean >> deviation.
MAGVIT_HOST_DEVICE float Normalize(float x, float mean, float scale, float shift) {
  return (x - mean) * scale + shift;
}

MAGVIT_HOST_DEVICE float Activate(float y, magvit_activation activation) {
  return activation == MAGVIT_SILU ? Silu(y) : y;
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_NORMALIZATION_H_
