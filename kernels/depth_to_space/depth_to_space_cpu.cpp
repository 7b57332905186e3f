// Channels to positions on the CPU: a task copies one row of the output.
#include <algorithm>

#include "conv/pool.h"
#include "magvit/operators.h"

namespace magvit {
namespace {

struct Block {
  int64_t frames, height, width;
};

// `row` counts the rows of all frames of the output.
void CopyRow(const magvit_feature_map& input, const Block& block, const magvit_feature_map& output,
             int64_t row) {
  const int64_t frame = row / output.height, y = row % output.height;
  // The first frame of the input gives one frame: what the others would be is left out.
  const int64_t fine_frame = frame == 0 ? 0 : frame + block.frames - 1;
  const int64_t source_row = fine_frame / block.frames * input.height + y / block.height;
  const int64_t part = fine_frame % block.frames * block.height + y % block.height;
  const int64_t padding = output.channel_pitch - output.channels;
  float* target = output.values + row * output.width * output.channel_pitch;
  for (int64_t x = 0; x < output.width; ++x) {
    const float* source = input.values +
                          (source_row * input.width + x / block.width) * input.channel_pitch +
                          (part * block.width + x % block.width) * output.channels;
    std::copy(source, source + output.channels, target);
    std::fill_n(target + output.channels, padding, 0.0f);
    target += output.channel_pitch;
  }
}

magvit_status Check(const magvit_feature_map* input, const Block& block,
                    const magvit_feature_map* output) {
  if (input == nullptr || output == nullptr || input->values == nullptr ||
      output->values == nullptr) {
    return MAGVIT_NULL_POINTER;
  }
  if (input->first_frames != nullptr || output->first_frames != nullptr) {
    return MAGVIT_BAD_BACKGROUND;
  }
  const bool fits =
      block.frames > 0 && block.height > 0 && block.width > 0 && input->frames > 0 &&
      input->height > 0 && input->width > 0 && output->channels > 0 &&
      output->frames == (input->frames - 1) * block.frames + 1 &&
      output->height == input->height * block.height &&
      output->width == input->width * block.width &&
      input->channels == block.frames * block.height * block.width * output->channels &&
      input->channel_pitch >= input->channels && output->channel_pitch >= output->channels;
  return fits ? MAGVIT_OK : MAGVIT_BAD_SHAPE;
}

}  // namespace
}  // namespace magvit

magvit_status magvit_depth_to_space_run(const magvit_feature_map* input, const int64_t* block,
                                        const magvit_feature_map* output, magvit_pool* pool) {
  if (block == nullptr || pool == nullptr) return MAGVIT_NULL_POINTER;
  const magvit::Block sizes = {block[0], block[1], block[2]};
  const magvit_status status = magvit::Check(input, sizes, output);
  if (status != MAGVIT_OK) return status;
  const auto lock = pool->threads.Own();
  pool->threads.Run(output->frames * output->height,
                    [&](int64_t row, int32_t) { magvit::CopyRow(*input, sizes, *output, row); });
  return MAGVIT_OK;
}
