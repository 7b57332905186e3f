// What the CUDA operators ask of a `magvit_cuda_map`.
#ifndef MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_
#define MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "magvit/cuda_operators.h"
#include "tensor/places.h"
#include "tensor/vector_access.cuh"

namespace magvit {

// Channels of one access. With half as with float it is a whole number of 16 bytes, so that one
// width serves every pair of types.
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

inline bool IsValid(const magvit_cuda_map& map) {
  if (map.dtype != MAGVIT_FLOAT32 && map.dtype != MAGVIT_FLOAT16) return false;
  if (map.data == nullptr || !IsAligned(map.data, 32)) return false;
  if (map.batch < 1 || map.channels < 1 || map.pitch < map.channels || map.pitch % kMapVector) {
    return false;
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (map.sizes[axis] < 1 || map.before[axis] < 0 || map.after[axis] < 0) return false;
  }
  // Of batches the grid's first dimension holds as many; FastDivisor divides no larger numbers.
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  return map.batch <= kLimit && map.channels <= kLimit && map.sizes[0] <= kLimit &&
         map.sizes[1] <= kLimit / map.sizes[0] &&
         map.sizes[2] <= kLimit / map.sizes[0] / map.sizes[1];
}

inline bool AreAlike(const magvit_cuda_map& a, const magvit_cuda_map& b) {
  return a.batch == b.batch && a.sizes[0] == b.sizes[0] && a.sizes[1] == b.sizes[1] &&
         a.sizes[2] == b.sizes[2] && a.channels == b.channels && a.pitch == b.pitch;
}

inline BorderedPlaces PlacesOf(const magvit_cuda_map& map) {
  const auto outside = [&](int axis) {
    return map.before[axis] + map.sizes[axis] + map.after[axis];
  };
  return {FastDivisor(static_cast<uint32_t>(map.sizes[1] * map.sizes[2])),
          FastDivisor(static_cast<uint32_t>(map.sizes[2])),
          outside(0),
          outside(1),
          outside(2),
          map.before[0],
          map.before[1],
          map.before[2]};
}

}  // namespace magvit

#endif  // MAGVIT_CUDA_OPERATORS_MAP_CHECKS_H_
