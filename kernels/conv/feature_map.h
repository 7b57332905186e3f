// Where the pixels of a feature map lie, and the order in which its tiles are computed.
#ifndef MAGVIT_CONV_FEATURE_MAP_H_
#define MAGVIT_CONV_FEATURE_MAP_H_

#include <cstdint>

#include "magvit/operators.h"

namespace magvit {

constexpr int kTile = 4;  // pixels of a tile's height and width

// `static`: see conv/simd.h for why no inline function here may be shared.

// A feature map as a conv reads it: either unchanged, or as if the whole clip were background, at
// sizes that the reader chooses.
struct MapView {
  const magvit_feature_map* map;
  int64_t height, width;
  bool is_background;
};

// Maps a coordinate of an all-background map of `size` to one of `background_size`, both with the
// same distance to the nearer border, or in the middle.
static inline int64_t BackgroundCoordinate(int64_t at, int64_t size, int64_t background_size) {
  const int64_t half = (size < background_size ? size : background_size) / 2;
  const int64_t from_end = at + background_size - size;
  if (at < half) return at;
  return from_end > half ? from_end : half;
}

// The channels of a pixel; nullptr outside of the map.
static inline const float* PixelOf(const MapView& view, int64_t frame, int64_t y, int64_t x) {
  const magvit_feature_map& map = *view.map;
  if (frame < 0 || frame >= map.frames || y < 0 || y >= view.height || x < 0 || x >= view.width) {
    return nullptr;
  }
  const bool has_own =
      map.first_frames == nullptr ||
      (!view.is_background &&
       frame >= map.first_frames[y / kTile * ((map.width + kTile - 1) / kTile) + x / kTile]);
  if (has_own) return map.values + ((frame * map.height + y) * map.width + x) * map.channel_pitch;
  const int64_t row = BackgroundCoordinate(y, view.height, map.background_height);
  const int64_t column = BackgroundCoordinate(x, view.width, map.background_width);
  return map.background + ((frame * map.background_height + row) * map.background_width + column) *
                              map.channel_pitch;
}

// A 4x4 tile of the output, in all frames from its first on.
struct TileColumn {
  int32_t y, x;         // of its first pixel, in the map or in its background
  int32_t first_frame;  // below the map's frames
};

// Tiles that are computed together, in the order of their first frames.
struct TileBlock {
  const TileColumn* columns;
  int64_t count;
  bool is_background;
};

}  // namespace magvit

#endif  // MAGVIT_CONV_FEATURE_MAP_H_
