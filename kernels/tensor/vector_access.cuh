// 16-byte accesses to device memory, as floats.
#ifndef MAGVIT_TENSOR_VECTOR_ACCESS_CUH_
#define MAGVIT_TENSOR_VECTOR_ACCESS_CUH_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>

#include "tensor/half.h"

namespace magvit {

// kCount consecutive elements that move in one instruction.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T values[kCount];
};

// The elements of T in 16 bytes.
template <typename T>
constexpr int kWidestVector = 16 / static_cast<int>(sizeof(T));

template <int kCount, typename T>
__device__ __forceinline__ Vector<T, kCount> LoadVector(const T* source) {
  return *reinterpret_cast<const Vector<T, kCount>*>(source);
}

// Uses __stwb, an ordinary store, because nvcc splits the plain copy of a struct that was made
// element by element into as many stores.
template <typename T, int kCount>
__device__ __forceinline__ void StoreVector(const Vector<T, kCount>& vector, T* target) {
  if constexpr (sizeof(vector) % sizeof(uint4) == 0) {
    constexpr int kWords = sizeof(vector) / sizeof(uint4);
    uint4 words[kWords];
    memcpy(words, &vector, sizeof(vector));
#pragma unroll
    for (int i = 0; i < kWords; ++i) __stwb(reinterpret_cast<uint4*>(target) + i, words[i]);
  } else {
    *reinterpret_cast<Vector<T, kCount>*>(target) = vector;
  }
}

template <int kCount, typename T>
__device__ __forceinline__ void LoadFloats(const T* source, float (&values)[kCount]) {
  const Vector<T, kCount> vector = LoadVector<kCount>(source);
#pragma unroll
  for (int i = 0; i < kCount; ++i) values[i] = ToFloat(vector.values[i]);
}

inline bool IsAligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_VECTOR_ACCESS_CUH_
