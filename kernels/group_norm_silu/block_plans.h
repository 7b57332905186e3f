// How the two passes of GroupNorm are cut into blocks. Plain arithmetic, for launches and tests.
#ifndef MAGVIT_GROUP_NORM_SILU_BLOCK_PLANS_H_
#define MAGVIT_GROUP_NORM_SILU_BLOCK_PLANS_H_

#include <algorithm>
#include <cstdint>

#include "tensor/shape.h"
#include "tensor/waves.h"

namespace magvit {

constexpr int kPassThreads = 256;

// Blocks that a multiprocessor holds at once; it gives each thread 80 registers then. A fourth
// block makes kernels spill, and so does a third where 32 bytes are written at once.
constexpr int kPassBlocks = 3;
constexpr int kWideApplyBlocks = 2;

// A channels-last statistics block has all threads of a multiprocessor, because the last block
// merges what each of the others found.
constexpr int kStatisticsThreads = kPassThreads * kPassBlocks;

// With fewer steps, a channels-first statistics block would spend more on merging than it saves on
// reading.
constexpr int64_t kLeastStatisticsSteps = 2;

// A conv that takes the moments of its output writes a partial for each tile of so many positions.
constexpr int kConvTilePositions = 256;

// The threads of a channels-last block: `columns` vectors of channels times `rows` positions.
struct ColumnTile {
  int columns;
  int rows;
  int tiles;  // that cover all channels; 1 up to 2,048 fp16 channels
};

inline ColumnTile TileColumns(int64_t channels, int vector, int threads) {
  const int64_t columns = DivideUp(channels, vector);
  const int64_t tile_columns = std::min<int64_t>(columns, kPassThreads);
  return {static_cast<int>(tile_columns), static_cast<int>(threads / tile_columns),
          static_cast<int>(DivideUp(columns, tile_columns))};
}

// One part of a grid in blocks that take equally many steps; the last may take fewer.
struct BlockPlan {
  int64_t blocks;
  int64_t block_steps;
};

// `steps` accesses in at most `limit` blocks, of at least `least_steps` unless there are fewer.
inline BlockPlan CutSteps(int64_t steps, int64_t limit, int64_t least_steps) {
  const int64_t block_steps = std::max(DivideUp(steps, limit), least_steps);
  return {DivideUp(steps, block_steps), block_steps};
}

// A pass over one sample and one column tile of a channels-last map. In a step, each thread of a
// block reads `batch` positions.
inline BlockPlan PlanPass(int64_t samples, int64_t positions, const ColumnTile& tile, int batch,
                          int64_t resident) {
  return CutSteps(DivideUp(positions, int64_t{tile.rows} * batch),
                  BlocksPerPart(samples * tile.tiles, resident), 1);
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_BLOCK_PLANS_H_
