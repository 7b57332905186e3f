// Cuts an output map into blocks of tiles.
#ifndef MAGVIT_CONV_TILE_BLOCKS_H_
#define MAGVIT_CONV_TILE_BLOCKS_H_

#include <cstdint>
#include <vector>

#include "conv/feature_map.h"

namespace magvit {

// A block and the rows that it has in each frame; see `ConvTask`.
struct PlannedBlock {
  TileBlock tiles;
  std::vector<int64_t> input_rows, output_rows;
};

class TileBlocks {
 public:
  // `input_frames` and `pad` (frames of padding before the clip) say which input frames a tile
  // needs.
  TileBlocks(const magvit_feature_map& output, int64_t input_frames, int64_t pad);

  const std::vector<PlannedBlock>& blocks() const { return blocks_; }

 private:
  void Cut(const std::vector<TileColumn>& columns, bool is_background, int64_t frames);

  int64_t input_frames_, pad_;
  std::vector<TileColumn> own_, background_;
  std::vector<PlannedBlock> blocks_;
};

}  // namespace magvit

#endif  // MAGVIT_CONV_TILE_BLOCKS_H_
