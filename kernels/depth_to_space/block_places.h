// Which position of a coarse map, and which part of its channels, each position of a finer map
// comes from.
#ifndef MAGVIT_DEPTH_TO_SPACE_BLOCK_PLACES_H_
#define MAGVIT_DEPTH_TO_SPACE_BLOCK_PLACES_H_

#include <cstdint>

#include "tensor/fast_divisor.h"
#include "tensor/host_device.h"

namespace magvit {

// Frames, height and width of the block that a position of the coarse map becomes. Of the first
// frame's block only the first frame is kept.
struct BlockPlaces {
  struct Place {
    uint32_t position;
    uint32_t part;  // counts (frame, row, column) of the block
  };

  FastDivisor frame_size, width;                        // of the finer map
  FastDivisor block_frames, block_height, block_width;  // of a block
  uint32_t coarse_height, coarse_width;

  MAGVIT_HOST_DEVICE Place At(uint32_t position) const {
    const uint32_t frame = frame_size.Quotient(position);
    const uint32_t in_frame = position - frame * frame_size.divisor();
    const uint32_t row = width.Quotient(in_frame);
    const uint32_t column = in_frame - row * width.divisor();
    // What the first block's other frames would be is left out.
    const uint32_t fine_frame = frame == 0 ? 0 : frame + block_frames.divisor() - 1;
    const uint32_t t = block_frames.Quotient(fine_frame);
    const uint32_t y = block_height.Quotient(row);
    const uint32_t x = block_width.Quotient(column);
    const uint32_t row_part = (fine_frame - t * block_frames.divisor()) * block_height.divisor() +
                              row - y * block_height.divisor();
    return {(t * coarse_height + y) * coarse_width + x,
            row_part * block_width.divisor() + column - x * block_width.divisor()};
  }
};

// Whether blocks of these sizes make the finer sizes of the coarse ones.
inline bool BlocksFit(const int64_t* coarse, const int64_t* block, const int64_t* fine) {
  for (int axis = 0; axis < 3; ++axis) {
    if (block[axis] < 1 || coarse[axis] < 1) return false;
  }
  return fine[0] == (coarse[0] - 1) * block[0] + 1 && fine[1] == coarse[1] * block[1] &&
         fine[2] == coarse[2] * block[2];
}

// Requires that the blocks fit and that the finer map has fewer than 2^31 positions.
inline BlockPlaces PlacesOfBlocks(const int64_t* coarse, const int64_t* block,
                                  const int64_t* fine) {
  return {FastDivisor(static_cast<uint32_t>(fine[1] * fine[2])),
          FastDivisor(static_cast<uint32_t>(fine[2])),
          FastDivisor(static_cast<uint32_t>(block[0])),
          FastDivisor(static_cast<uint32_t>(block[1])),
          FastDivisor(static_cast<uint32_t>(block[2])),
          static_cast<uint32_t>(coarse[1]),
          static_cast<uint32_t>(coarse[2])};
}

}  // namespace magvit

#endif  // MAGVIT_DEPTH_TO_SPACE_BLOCK_PLACES_H_
