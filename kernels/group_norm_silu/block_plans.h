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

// With fewer steps, a statistics block would spend more on merging than it saves on reading.
constexpr int64_t kLeastStatisticsSteps = 2;

// The threads of a channels-last block: `columns` vectors of channels times `rows` positions.
struct ColumnTile {
  int columns;
  int rows;
  int tiles;  // that cover all channels; 1 up to 2,048 fp16 channels
};

inline ColumnTile TileColumns(int64_t channels, int vector) {
  const int64_t columns = DivideUp(channels, vector);
  const int64_t tile_columns = std::min<int64_t>(columns, kPassThreads);
  return {static_cast<int>(tile_columns), static_cast<int>(kPassThreads / tile_columns),
          static_cast<int>(DivideUp(columns, tile_columns))};
}

// One part of a grid in blocks of equal length; the last may be shorter.
struct BlockPlan {
  int64_t blocks;
  int64_t block_steps;  // accesses of one thread, one after the other
};

// `steps` accesses in at most `limit` blocks, of at least `least_steps` unless there are fewer.
inline BlockPlan CutSteps(int64_t steps, int64_t limit, int64_t least_steps) {
  const int64_t block_steps = std::max(DivideUp(steps, limit), least_steps);
  return {DivideUp(steps, block_steps), block_steps};
}

// The statistics pass over a channels-last map: the blocks of one sample and one column tile.
inline BlockPlan PlanStatistics(int64_t samples, int64_t positions, const ColumnTile& tile,
                                int64_t resident) {
  return CutSteps(DivideUp(positions, tile.rows), BlocksPerPart(samples * tile.tiles, resident),
                  kLeastStatisticsSteps);
}

// The same for the pass that normalises.
inline BlockPlan PlanApply(int64_t samples, int64_t positions, const ColumnTile& tile,
                           int64_t resident) {
  return CutSteps(DivideUp(positions, tile.rows), BlocksPerPart(samples * tile.tiles, resident), 1);
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_BLOCK_PLANS_H_
