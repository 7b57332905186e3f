// Vectors of floats, as wide as the instruction set that the including file is compiled for.
//
// Files that include this are compiled once for each instruction set. All their definitions must be
// in the namespace MAGVIT_ISA. They call no inline function of the standard library: the linker
// keeps one copy of such a function, which might use instructions that this CPU doesn't have.
#ifndef MAGVIT_CONV_SIMD_H_
#define MAGVIT_CONV_SIMD_H_

#include <cstdint>

#if defined(__AVX512F__)
#define MAGVIT_ISA avx512
#define MAGVIT_LANES 16
#define MAGVIT_ROWS 14
#elif defined(__AVX2__) && defined(__FMA__)
#define MAGVIT_ISA avx2
#define MAGVIT_LANES 8
#define MAGVIT_ROWS 6
#else
#define MAGVIT_ISA portable
#define MAGVIT_LANES 4
#define MAGVIT_ROWS 6
#endif

// What a file defines for others: kAvx2ConvKernels, say, where MAGVIT_KERNELS_OF is kAvx2.
#define MAGVIT_JOIN_(first, second) first##second
#define MAGVIT_JOIN(first, second) MAGVIT_JOIN_(first, second)
#define MAGVIT_KERNELS(kind) MAGVIT_JOIN(MAGVIT_KERNELS_OF, kind)
#define MAGVIT_TEXT_(text) #text
#define MAGVIT_TEXT(text) MAGVIT_TEXT_(text)

namespace magvit {
namespace MAGVIT_ISA {

constexpr int kLanes = MAGVIT_LANES;
// Rows of a block of the matrix product: with two vectors of columns, its sums fill the registers.
constexpr int kRows = MAGVIT_ROWS;

typedef float Lanes __attribute__((vector_size(4 * MAGVIT_LANES)));
typedef int32_t IntLanes __attribute__((vector_size(4 * MAGVIT_LANES)));

inline Lanes Load(const float* source) { return *reinterpret_cast<const Lanes*>(source); }

inline void Store(Lanes value, float* target) { *reinterpret_cast<Lanes*>(target) = value; }

inline Lanes Broadcast(float value) { return value - Lanes{}; }

// exp(x) to 2 units in the last place for |x| <= 87; beyond that, exp(±87). NaN stays NaN.
//
// Source: the range reduction and polynomial of Cephes' expf (S. Moshier).
inline Lanes Exp(Lanes x) {
  x = x > 87.0f ? Broadcast(87.0f) : x;
  x = x < -87.0f ? Broadcast(-87.0f) : x;
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the sum's low bits.
  const Lanes shifted = x * 1.44269504088896341f + 12582912.0f;
  const Lanes n = shifted - 12582912.0f;
  const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const IntLanes exponent = (reinterpret_cast<IntLanes>(shifted) + 127) << 23;
  return p * reinterpret_cast<Lanes>(exponent);
}

inline Lanes SiLU(Lanes x) { return x / (1.0f + Exp(-x)); }

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_SIMD_H_
