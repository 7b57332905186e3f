#include "conv/tile_blocks.h"

#include <algorithm>

namespace magvit {
namespace {

// Rows of a block. Fewer read the weights too often, more leave the second-level cache.
constexpr int64_t kBlockRows = 140;

std::vector<TileColumn> Tiles(int64_t height, int64_t width, int64_t frames,
                              const int16_t* first_frames) {
  std::vector<TileColumn> tiles;
  for (int64_t y = 0; y < height; y += kTile) {
    for (int64_t x = 0; x < width; x += kTile) {
      const int32_t first = first_frames == nullptr ? 0 : std::max<int16_t>(*first_frames++, 0);
      if (first >= frames) continue;
      tiles.push_back({static_cast<int32_t>(y), static_cast<int32_t>(x), first});
    }
  }
  // Neighbours that begin in the same frame stay together.
  std::stable_sort(tiles.begin(), tiles.end(), [](const TileColumn& a, const TileColumn& b) {
    return a.first_frame < b.first_frame;
  });
  return tiles;
}

}  // namespace

TileBlocks::TileBlocks(const magvit_feature_map& output, int64_t input_frames, int64_t pad)
    : input_frames_(input_frames), pad_(pad) {
  own_ = Tiles(output.height, output.width, output.frames, output.first_frames);
  Cut(own_, false, output.frames);
  if (output.first_frames == nullptr) return;
  background_ = Tiles(output.background_height, output.background_width, output.frames, nullptr);
  Cut(background_, true, output.frames);
}

void TileBlocks::Cut(const std::vector<TileColumn>& columns, bool is_background, int64_t frames) {
  for (size_t begin = 0; begin < columns.size();) {
    size_t end = begin;
    for (int64_t rows = 0; end < columns.size() && rows < kBlockRows; ++end) {
      rows += frames - columns[end].first_frame;
    }
    PlannedBlock block;
    block.tiles = {&columns[begin], static_cast<int64_t>(end - begin), is_background};
    const auto begun = [&](int64_t frame) {
      const TileColumn* first = &columns[begin];
      return std::count_if(first, first + block.tiles.count,
                           [&](const TileColumn& column) { return column.first_frame <= frame; });
    };
    block.output_rows = {0};
    for (int64_t frame = 0; frame < frames; ++frame) {
      block.output_rows.push_back(block.output_rows.back() + begun(frame));
    }
    // Of the output frames that see an input frame, the last has the most columns.
    block.input_rows = {0};
    for (int64_t frame = 0; frame < input_frames_; ++frame) {
      block.input_rows.push_back(block.input_rows.back() +
                                 begun(std::min(frame + pad_, frames - 1)));
    }
    blocks_.push_back(std::move(block));
    begin = end;
  }
}

}  // namespace magvit
