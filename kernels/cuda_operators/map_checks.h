// The checks that the CUDA operators make on a `magvit_cuda_map`.
#ifndef MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_
#define MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "magvit/cuda_operators.h"
#include "tensor/places.h"
#include "tensor/vector_access.cuh"

namespace magvit {

// Channels of one access. For half and for float this is a whole number of 16 bytes, so one width
// serves every pair of types.
constexpr int kMapVector = 8;

inline int64_t Positions(const magvit_cuda_map& map) {
  return map.sizes[0] * map.sizes[1] * map.sizes[2];
}

inline magvit_shape AsShape(const magvit_cuda_map& map) {
  return {map.batch, map.channels, Positions(map), MAGVIT_CHANNELS_LAST, map.pitch};
}

inline bool HasBorder(const magvit_cuda_map& map) {
  int64_t widths = 0;
  for (int axis = 0; axis < 3; ++axis) widths += map.before[axis] + map.after[axis];
  return widths != 0;
}

// With the border.
inline int64_t SizeOutside(const magvit_cuda_map& map, int axis) {
  return map.before[axis] + map.sizes[axis] + map.after[axis];
}

inline bool IsValid(const magvit_cuda_map& map) {
  if (map.dtype != MAGVIT_FLOAT32 && map.dtype != MAGVIT_FLOAT16) return false;
  if (map.data == nullptr || !IsAligned(map.data, 32)) return false;
  if (map.batch < 1 || map.channels < 1 || map.pitch < map.channels || map.pitch % kMapVector) {
    return false;
  }
  // The grid's first dimension holds this many batches. Positions are counted in 32 bits, and
  // FastDivisor divides no larger numbers.
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  for (int axis = 0; axis < 3; ++axis) {
    if (map.sizes[axis] < 1 || map.before[axis] < 0 || map.after[axis] < 0) return false;
    if (map.sizes[axis] > kLimit || map.before[axis] > kLimit || map.after[axis] > kLimit)
      return false;
  }
  return map.batch <= kLimit && map.channels <= kLimit && SizeOutside(map, 0) <= kLimit &&
         SizeOutside(map, 1) <= kLimit / SizeOutside(map, 0) &&
         SizeOutside(map, 2) <= kLimit / SizeOutside(map, 0) / SizeOutside(map, 1);
}

inline bool AreAlike(const magvit_cuda_map& a, const magvit_cuda_map& b) {
  return a.batch == b.batch && a.sizes[0] == b.sizes[0] && a.sizes[1] == b.sizes[1] &&
         a.sizes[2] == b.sizes[2] && a.channels == b.channels && a.pitch == b.pitch;
}

inline BorderedPlaces PlacesOf(const magvit_cuda_map& map) {
  const int64_t rows = SizeOutside(map, 1), row_length = SizeOutside(map, 2);
  const int64_t first = (map.before[0] * rows + map.before[1]) * row_length + map.before[2];
  return {FastDivisor(static_cast<uint32_t>(map.sizes[1] * map.sizes[2])),
          FastDivisor(static_cast<uint32_t>(map.sizes[2])),
          static_cast<uint32_t>(rows),
          static_cast<uint32_t>(row_length),
          static_cast<uint32_t>(first),
          static_cast<uint32_t>(SizeOutside(map, 0) * rows * row_length)};
}

}  // namespace magvit

#endif  // MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_
