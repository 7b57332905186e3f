// How many blocks a grid is cut into, so that all of a GPU works until the grid's end: blocks
// beyond a whole number of waves would run alone.
#ifndef MAGVIT_TENSOR_WAVES_H_
#define MAGVIT_TENSOR_WAVES_H_

#include <algorithm>
#include <cstdint>

#include "tensor/shape.h"

namespace magvit {

// Blocks of a grid at most, unless it has more parts. No GPU holds as many at once; the workspace,
// whose size must be known where there is no GPU, has room for them.
constexpr int64_t kMostBlocks = 2048;

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
