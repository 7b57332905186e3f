// The places of a clip's positions in channels-last memory, counted in positions from the clip's
// first.
#ifndef MAGVIT_TENSOR_PLACES_H_
#define MAGVIT_TENSOR_PLACES_H_

#include <cstdint>

#include "tensor/fast_divisor.h"
#include "tensor/host_device.h"

namespace magvit {

// Positions one after the other, without a border.
struct PackedPlaces {
  uint32_t clip_size;  // positions

  MAGVIT_HOST_DEVICE uint32_t At(uint32_t position) const { return position; }
};

// Positions inside a border in time, height and width, which is a conv's padding.
struct BorderedPlaces {
  FastDivisor frame_size, width;      // without the border
  uint32_t rows_outside, row_length;  // with it
  uint32_t first;                     // where position 0 lies
  uint32_t clip_size;                 // with the border, positions

  MAGVIT_HOST_DEVICE uint32_t At(uint32_t position) const {
    const uint32_t frame = frame_size.Quotient(position);
    const uint32_t in_frame = position - frame * frame_size.divisor();
    const uint32_t row = width.Quotient(in_frame);
    const uint32_t column = in_frame - row * width.divisor();
    return first + (frame * rows_outside + row) * row_length + column;
  }
};

}  // namespace magvit

#endif  // MAGVIT_TENSOR_PLACES_H_
