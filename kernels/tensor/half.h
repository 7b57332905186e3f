// IEEE binary16 as its 16 bits, and its conversions to and from float on host and device.
//
// C++17 has no half type and the CPU operators must build without the CUDA headers. The host
// conversions have no branches and no tables, so that compilers vectorise loops over them.
#ifndef MAGVIT_TENSOR_HALF_H_
#define MAGVIT_TENSOR_HALF_H_

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

#include "tensor/host_device.h"

namespace magvit {

struct Half {
  uint16_t bits;
};

inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

MAGVIT_HOST_DEVICE float ToFloat(float value) { return value; }

MAGVIT_HOST_DEVICE float ToFloat(Half value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  // Exponent and mantissa, shifted into place, are the value times 2^-112. The product is also
  // exact for subnormals. Infinities and NaN become finite by this, so their exponent is restored.
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fff) << 13;
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t scaled = BitsFromFloat(FloatFromBits(magnitude) * FloatFromBits(0x77800000));
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000 : 0;
  return FloatFromBits(scaled | special | sign);
#endif
}

template <typename T>
MAGVIT_HOST_DEVICE T FromFloat(float value);

template <>
MAGVIT_HOST_DEVICE float FromFloat<float>(float value) {
  return value;
}

// Rounds to nearest, ties to even; values that round beyond 65504 become infinity, as in the
// standard.
template <>
MAGVIT_HOST_DEVICE Half FromFloat<Half>(float value) {
#ifdef __CUDA_ARCH__
  return Half{__half_as_ushort(__float2half_rn(value))};
#else
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t magnitude = bits & 0x7fffffff;
  // Adding 0.5 lets the float adder round a subnormal half at its last bit.
  const uint32_t subnormal = BitsFromFloat(FloatFromBits(magnitude) + 0.5f) - BitsFromFloat(0.5f);
  const uint32_t odd = (magnitude >> 13) & 1;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + odd) >> 13;
  const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  const uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
  const uint32_t rounded = magnitude >= (143u << 23) ? special : finite;
  return Half{static_cast<uint16_t>(rounded | ((bits >> 16) & 0x8000))};
#endif
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_HALF_H_
