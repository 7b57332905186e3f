#include "conv/block_moments.h"

#include <algorithm>

namespace magvit {

double PixelCount(const PlannedBlock& block, const magvit_conv_call& call) {
  const magvit_feature_map& output = *call.output;
  const bool is_background = block.tiles.is_background;
  const int64_t height = is_background ? output.background_height : output.height;
  const int64_t width = is_background ? output.background_width : output.width;
  double count = 0;
  for (int64_t i = 0; i < block.tiles.count; ++i) {
    const TileColumn& tile = block.tiles.columns[i];
    const int64_t last_y = std::min<int64_t>(tile.y + kTile, height);
    const int64_t last_x = std::min<int64_t>(tile.x + kTile, width);
    if (!is_background) {
      count += (output.frames - tile.first_frame) * (last_y - tile.y) * (last_x - tile.x);
      continue;
    }
    for (int64_t frame = 0; frame < output.frames; ++frame) {
      for (int64_t y = tile.y; y < last_y; ++y) {
        const float* row = call.background_counts + (frame * height + y) * width;
        for (int64_t x = tile.x; x < last_x; ++x) count += row[x];
      }
    }
  }
  return count;
}

void ReduceMoments(const BlockMoments& blocks, const magvit_conv_call& call) {
  const int64_t pitch = call.output->channel_pitch;
  const int64_t width = call.output->channels / call.groups;
  for (int64_t group = 0; group < call.groups; ++group) {
    double count = 0, mean = 0, deviations = 0;
    for (size_t block = 0; block < blocks.counts.size(); ++block) {
      const double added = blocks.counts[block];
      if (added == 0) continue;
      for (int64_t channel = group * width; channel < (group + 1) * width; ++channel) {
        const double difference = blocks.means.get()[block * pitch + channel] - mean;
        const double share = added / (count + added);
        mean += difference * share;
        deviations += blocks.deviations.get()[block * pitch + channel] +
                      difference * difference * count * share;
        count += added;
      }
    }
    call.moments[2 * group] = mean;
    call.moments[2 * group + 1] = deviations / count;
  }
}

}  // namespace magvit
