// GroupNorm of one element with known statistics, and SiLU.
#ifndef MAGVIT_GROUP_NORM_SILU_NORMALIZATION_H_
#define MAGVIT_GROUP_NORM_SILU_NORMALIZATION_H_

#include <cmath>
#include <cstdint>

#include "group_norm_silu/statistics.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/host_device.h"

namespace magvit {

// e^-|x|. On the CPU a polynomial of relative error 2e-7 that compilers vectorise, unlike std::exp.
// It stops at e^-87, near the smallest normal float.
MAGVIT_HOST_DEVICE float DecayingExponential(float x) {
#ifdef __CUDA_ARCH__
  return __expf(-fabsf(x));
#else
  // The minimum compares bits. They are ordered like the values, and NaN also has a place there.
  constexpr int32_t kBitsOf87 = 0x42ae0000;
  const int32_t magnitude = static_cast<int32_t>(BitsFromFloat(x) & 0x7fffffff);
  const float exponent = -FloatFromBits(magnitude < kBitsOf87 ? magnitude : kBitsOf87);
  // exponent = n ln 2 + r with |r| <= ln(2) / 2; adding 1.5 * 2^23 rounds n to an integer and
  // leaves it in the low bits.
  const float shifted = exponent * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (exponent - n * 0.693359375f) + n * 2.12194440e-4f;
  // Cephes' minimax polynomial for e^r.
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * FloatFromBits((BitsFromFloat(shifted) + 127) << 23);
#endif
}

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
