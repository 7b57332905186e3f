// The moments that a conv computes for the next normalisation: of channels over blocks, then of
// groups over all blocks.
#ifndef MAGVIT_CONV_BLOCK_MOMENTS_H_
#define MAGVIT_CONV_BLOCK_MOMENTS_H_

#include <vector>

#include "conv/aligned_floats.h"
#include "conv/tile_blocks.h"
#include "magvit/operators.h"

namespace magvit {

// Moments of each channel over each block, [block, channel_pitch], and the pixels in each block.
struct BlockMoments {
  Floats means, deviations;
  std::vector<double> counts;
};

// Pixels that a block stands for.
double PixelCount(const PlannedBlock& block, const magvit_conv_call& call);

// Writes the call's moments: each group's mean and variance over channels and blocks.
void ReduceMoments(const BlockMoments& blocks, const magvit_conv_call& call);

}  // namespace magvit

#endif  // MAGVIT_CONV_BLOCK_MOMENTS_H_
