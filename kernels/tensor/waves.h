// How many blocks a grid is cut into, so that the whole GPU works until the grid's end. Blocks
// beyond a whole number of waves would run alone.
#ifndef MAGVIT_TENSOR_WAVES_H_
#define MAGVIT_TENSOR_WAVES_H_

#include <algorithm>
#include <cstdint>

#include "tensor/shape.h"

namespace magvit {

// The most blocks of a grid, unless it has more parts. No GPU holds this many at once. The
// workspace has room for them, because its size must also be known without a GPU.
constexpr int64_t kMostBlocks = 1536;

// Blocks for each of `parts` equal parts of one grid (samples, say): the fewest waves of `resident`
// blocks, which the GPU holds at once, that the grid fills to nine tenths. At least 1.
inline int64_t BlocksPerPart(int64_t parts, int64_t resident) {
  for (int64_t waves = DivideUp(parts, resident); waves * resident <= kMostBlocks; ++waves) {
    const int64_t blocks = waves * resident / parts;
    if (10 * blocks * parts >= 9 * waves * resident) return blocks;
  }
  return std::max<int64_t>(kMostBlocks / parts, 1);
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_WAVES_H_
