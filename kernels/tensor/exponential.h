// The exponential of what isn't above zero, for SiLU and softmax.
#ifndef MAGVIT_TENSOR_EXPONENTIAL_H_
#define MAGVIT_TENSOR_EXPONENTIAL_H_

#include <cmath>
#include <cstdint>

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

}  // namespace magvit

#endif  // MAGVIT_TENSOR_EXPONENTIAL_H_
