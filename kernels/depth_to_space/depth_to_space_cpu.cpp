// Channels to positions on the CPU: a task copies one row of the output.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "conv/pool.h"
#include "depth_to_space/block_places.h"
#include "magvit/operators.h"

namespace magvit {
namespace {

// `BlockPlaces` counts them in 32 bits.
constexpr int64_t kMostPositions = std::numeric_limits<int32_t>::max();

struct Sizes {
  int64_t of[3];  // frames, height, width
};

Sizes SizesOf(const magvit_feature_map& map) { return {{map.frames, map.height, map.width}}; }

// `row` counts the rows of all frames of the output.
void CopyRow(const magvit_feature_map& input, const BlockPlaces& blocks,
             const magvit_feature_map& output, int64_t row) {
  const int64_t padding = output.channel_pitch - output.channels;
  const int64_t first = row * output.width;
  for (int64_t position = first; position < first + output.width; ++position) {
    const BlockPlaces::Place place = blocks.At(static_cast<uint32_t>(position));
    const float* source = input.values + int64_t{place.position} * input.channel_pitch +
                          int64_t{place.part} * output.channels;
    float* target = output.values + position * output.channel_pitch;
    std::copy(source, source + output.channels, target);
    std::fill_n(target + output.channels, padding, 0.0f);
  }
}

magvit_status Check(const magvit_feature_map* input, const int64_t* block,
                    const magvit_feature_map* output) {
  if (input == nullptr || output == nullptr || input->values == nullptr ||
      output->values == nullptr) {
    return MAGVIT_NULL_POINTER;
  }
  if (input->first_frames != nullptr || output->first_frames != nullptr) {
    return MAGVIT_BAD_BACKGROUND;
  }
  const bool fits =
      output->channels > 0 && BlocksFit(SizesOf(*input).of, block, SizesOf(*output).of) &&
      output->frames <= kMostPositions / output->height / output->width &&
      input->channels == block[0] * block[1] * block[2] * output->channels &&
      input->channel_pitch >= input->channels && output->channel_pitch >= output->channels;
  return fits ? MAGVIT_OK : MAGVIT_BAD_SHAPE;
}

}  // namespace
}  // namespace magvit

magvit_status magvit_depth_to_space_run(const magvit_feature_map* input, const int64_t* block,
                                        const magvit_feature_map* output, magvit_pool* pool) {
  if (block == nullptr || pool == nullptr) return MAGVIT_NULL_POINTER;
  const magvit_status status = magvit::Check(input, block, output);
  if (status != MAGVIT_OK) return status;
  const magvit::BlockPlaces blocks =
      magvit::PlacesOfBlocks(magvit::SizesOf(*input).of, block, magvit::SizesOf(*output).of);
  const auto lock = pool->threads.Own();
  pool->threads.Run(output->frames * output->height,
                    [&](int64_t row, int32_t) { magvit::CopyRow(*input, blocks, *output, row); });
  return MAGVIT_OK;
}
