// Where the positions of a clip lie in channels-last memory, counted in positions.
#ifndef MAGVIT_TENSOR_PLACES_H_
#define MAGVIT_TENSOR_PLACES_H_

#include <cstdint>

#include "tensor/fast_divisor.h"
#include "tensor/host_device.h"

namespace magvit {

// One behind the other.
struct PackedPlaces {
  int64_t positions;  // of a clip

  MAGVIT_HOST_DEVICE int64_t At(int64_t clip, int64_t position) const {
    return clip * positions + position;
  }
};

// Inside a border in time, height and width, which a conv's padding is.
struct BorderedPlaces {
  FastDivisor frame_size, width;                     // without the border
  int64_t frames_outside, rows_outside, row_length;  // with it
  int64_t frames_before, rows_before, columns_before;

  MAGVIT_HOST_DEVICE int64_t At(int64_t clip, int64_t position) const {
    const auto inside = static_cast<uint32_t>(position);
    const uint32_t frame = frame_size.Quotient(inside);
    const uint32_t in_frame = inside - frame * frame_size.divisor();
    const uint32_t row = width.Quotient(in_frame);
    const uint32_t column = in_frame - row * width.divisor();
    const int64_t rows = (clip * frames_outside + frames_before + frame) * rows_outside;
    return (rows + rows_before + row) * row_length + columns_before + column;
  }
};

}  // namespace magvit

#endif  // MAGVIT_TENSOR_PLACES_H_
