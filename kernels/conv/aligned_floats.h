// Arrays of floats, aligned for vector loads.
#ifndef MAGVIT_CONV_ALIGNED_FLOATS_H_
#define MAGVIT_CONV_ALIGNED_FLOATS_H_

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace magvit {

struct FreeMemory {
  void operator()(float* memory) const { std::free(memory); }
};
using Floats = std::unique_ptr<float, FreeMemory>;

inline Floats Allocate(size_t count) {
  const size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
  Floats memory(static_cast<float*>(std::aligned_alloc(64, bytes)));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

inline Floats AllocateZeros(size_t count) {
  Floats memory = Allocate(count);
  std::fill_n(memory.get(), count, 0.0f);
  return memory;
}

}  // namespace magvit

#endif  // MAGVIT_CONV_ALIGNED_FLOATS_H_
