// How a conv on tensor cores is cut into tiles, and in which order blocks take them. Plain
// arithmetic, for the kernel and for tests.
#ifndef MAGVIT_TENSOR_CORE_CONV_TILES_H_
#define MAGVIT_TENSOR_CORE_CONV_TILES_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda_operators/map_checks.h"
#include "group_norm_silu/block_plans.h"
#include "tensor/host_device.h"

namespace magvit {

// A tile is 8 columns and 32 rows of one frame, for 128 channels of the output.
constexpr int kTileColumns = 8;
constexpr int kTileRows = 32;
constexpr int kTilePositions = kTileColumns * kTileRows;
static_assert(kTilePositions == kConvTilePositions, "the workspace has room for a partial each");
constexpr int kTileChannels = 128;
// Channels of the input that are multiplied at a time.
constexpr int kChunkChannels = 64;
// The window over height and width.
constexpr int kWindow = 3;
constexpr int kWindowTaps = kWindow * kWindow;

// Tiles in each direction.
struct ConvTiles {
  int clips, frames, rows, columns, blocks;  // `blocks` of output channels
  int kernel_frames;
  int chunks;  // of input channels

  MAGVIT_HOST_DEVICE int OfFrame() const { return rows * columns * blocks; }
  MAGVIT_HOST_DEVICE int Total() const { return clips * frames * OfFrame(); }
  // Positions of one clip, cut into tiles.
  MAGVIT_HOST_DEVICE int OfClip() const { return frames * rows * columns; }
};

struct ConvTile {
  int clip, frame;
  int row, column;  // of its first position
  int channel;      // its first
  // The first frame of the window that isn't before the clip: the others are zeros, so they are
  // skipped.
  int first_tap;
  int place;  // among the clip's tiles of these channels
};

// Heavy tiles come first: whole windows of all clips, then the frames whose windows begin before
// the clip, each next one with less to do.
MAGVIT_HOST_DEVICE ConvTile TileAt(const ConvTiles& tiles, int index) {
  const int short_frames =
      tiles.kernel_frames - 1 < tiles.frames ? tiles.kernel_frames - 1 : tiles.frames;
  const int whole_frames = tiles.frames - short_frames;
  const int all_whole = tiles.clips * whole_frames;
  const int frame = index / tiles.OfFrame();
  const int in_frame = index - frame * tiles.OfFrame();
  ConvTile tile;
  if (frame < all_whole) {
    tile.clip = frame / whole_frames;
    tile.frame = short_frames + frame - tile.clip * whole_frames;
  } else {
    const int earlier = (frame - all_whole) / tiles.clips;
    tile.clip = frame - all_whole - earlier * tiles.clips;
    tile.frame = short_frames - 1 - earlier;
  }
  const int area = in_frame / tiles.blocks;
  const int row = area / tiles.columns;
  tile.row = row * kTileRows;
  tile.column = (area - row * tiles.columns) * kTileColumns;
  tile.channel = (in_frame - area * tiles.blocks) * kTileChannels;
  const int missing = tiles.kernel_frames - 1 - tile.frame;
  tile.first_tap = missing > 0 ? missing : 0;
  tile.place = tile.frame * tiles.rows * tiles.columns + area;
  return tile;
}

// The tile that a block takes in a round. Every second round goes backwards, so that the blocks
// that had a heavy tile in the last round have a light one in the next.
MAGVIT_HOST_DEVICE int TileOfRound(int round, int block, int blocks) {
  return round * blocks + (round % 2 != 0 ? blocks - 1 - block : block);
}

// Whether whole tiles make up the output of a causal conv with stride 1, all counted in 32 bits.
inline bool FitsTiles(const magvit_cuda_map& input, const magvit_cuda_map& output,
                      int64_t kernel_frames) {
  if (!IsValid(input) || !IsValid(output) || HasBorder(input) || HasBorder(output)) return false;
  if (input.dtype != MAGVIT_FLOAT16 || output.dtype != MAGVIT_FLOAT16) return false;
  if (input.batch != output.batch || !std::equal(input.sizes, input.sizes + 3, output.sizes)) {
    return false;
  }
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  return kernel_frames >= 1 && kernel_frames <= kWindow && input.channels % kChunkChannels == 0 &&
         output.channels % kTileChannels == 0 && input.channels == input.pitch &&
         output.channels == output.pitch && output.sizes[1] % kTileRows == 0 &&
         output.sizes[2] % kTileColumns == 0 && input.batch <= kLimit / Positions(output) &&
         // So that there are no more tiles than positions.
         output.channels / kTileChannels <= kTilePositions;
}

// Whether each half of a tile's channels has whole groups, for its moments (also `_MOMENTS` in
// own_convs.py).
inline bool FitsGroups(const magvit_cuda_map& output, int64_t groups) {
  return kTileChannels / 2 % (output.channels / groups) == 0;
}

inline ConvTiles TilesOf(const magvit_cuda_map& input, const magvit_cuda_map& output,
                         int64_t kernel_frames) {
  const auto whole = [](int64_t value) { return static_cast<int>(value); };
  return {whole(output.batch),
          whole(output.sizes[0]),
          whole(output.sizes[1] / kTileRows),
          whole(output.sizes[2] / kTileColumns),
          whole(output.channels / kTileChannels),
          whole(kernel_frames),
          whole(input.channels / kChunkChannels)};
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_CORE_CONV_TILES_H_
