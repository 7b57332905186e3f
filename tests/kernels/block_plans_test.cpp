// How the passes over the released encoder's maps are cut, on GPUs of every size: whole waves, all
// positions covered, and no more blocks than the workspace has room for.
#include <algorithm>
#include <cstdint>

#include "check.h"
#include "group_norm_silu/block_plans.h"
#include "tensor/waves.h"

namespace {

struct Map {
  int64_t frames, height, width, channels;
};

// The maps that the video encoder normalises, at 17x128x128.
constexpr Map kMaps[] = {{17, 128, 128, 128}, {17, 64, 64, 128}, {17, 64, 64, 256},
                         {9, 32, 32, 256},    {5, 16, 16, 256},  {5, 16, 16, 512}};
// H100, A10G, L4 and T4.
constexpr int kMultiprocessors[] = {132, 80, 58, 40};
constexpr int kHalfVector = 8;

void TestMap(const Map& map, int64_t batch, int multiprocessors) {
  const int64_t positions = map.frames * map.height * map.width;
  // The pass, its threads, its blocks on a multiprocessor, and positions that a thread reads at
  // once.
  const struct {
    int threads, blocks, at_once;
  } passes[] = {{magvit::kStatisticsThreads, 1, 4},
                {magvit::kStatisticsThreads, 1, 2},
                {magvit::kPassThreads, magvit::kPassBlocks, 4},
                {magvit::kPassThreads, magvit::kWideApplyBlocks, 2}};
  for (const auto& pass : passes) {
    const int64_t resident = int64_t{multiprocessors} * pass.blocks;
    const magvit::ColumnTile tile = magvit::TileColumns(map.channels, kHalfVector, pass.threads);
    const magvit::BlockPlan plan = magvit::PlanPass(batch, positions, tile, pass.at_once, resident);
    const int64_t steps = magvit::DivideUp(positions, int64_t{tile.rows} * pass.at_once);
    // One wave, and as short a one as the steps allow: a step less in each block would not fit.
    CHECK(batch * tile.tiles * plan.blocks <= resident);
    CHECK(plan.block_steps == 1 ||
          batch * tile.tiles * magvit::DivideUp(steps, plan.block_steps - 1) > resident);
    CHECK(plan.blocks * plan.block_steps >= steps);
    CHECK((plan.blocks - 1) * plan.block_steps < steps);
  }
}

// Any number of parts: whole waves, full to nine tenths, wherever the room for partials allows it.
void TestParts(int64_t parts, int64_t resident) {
  const int64_t blocks = magvit::BlocksPerPart(parts, resident);
  const int64_t grid = parts * blocks;
  CHECK(blocks >= 1);
  CHECK(grid <= std::max(magvit::kMostBlocks, parts));
  const int64_t waves = magvit::DivideUp(grid, resident);
  const bool has_room = std::max(10 * parts, resident) <= magvit::kMostBlocks;
  if (has_room) CHECK(10 * grid >= 9 * waves * resident);
}

}  // namespace

int main() {
  for (const int multiprocessors : kMultiprocessors) {
    for (const int64_t batch : {1, 4, 8}) {
      for (const Map& map : kMaps) TestMap(map, batch, multiprocessors);
    }
    for (const int blocks : {1, magvit::kWideApplyBlocks, magvit::kPassBlocks}) {
      const int64_t resident = int64_t{multiprocessors} * blocks;
      for (int64_t parts = 1; parts < 5000; ++parts) TestParts(parts, resident);
    }
  }
  // No GPU of today holds as many.
  TestParts(3, 5000);
  return Verdict();
}
