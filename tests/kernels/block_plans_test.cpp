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

void TestMap(const Map& map, int64_t batch, int64_t resident) {
  const int64_t positions = map.frames * map.height * map.width;
  const magvit::ColumnTile tile = magvit::TileColumns(map.channels, kHalfVector);
  const int64_t steps = magvit::DivideUp(positions, tile.rows);
  const struct {
    magvit::BlockPlan plan;
    int64_t least_steps;
  } passes[] = {
      {magvit::PlanStatistics(batch, positions, tile, resident), magvit::kLeastStatisticsSteps},
      {magvit::PlanApply(batch, positions, tile, resident), 1}};
  for (const auto& [plan, least_steps] : passes) {
    const int64_t grid = batch * tile.tiles * plan.blocks;
    // One wave, and as short a one as the steps allow: a step less in each block would not fit.
    CHECK(grid <= resident);
    CHECK(plan.block_steps == least_steps ||
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
    for (const int blocks : {magvit::kWideApplyBlocks, magvit::kPassBlocks}) {
      const int64_t resident = multiprocessors * blocks;
      for (const int64_t batch : {1, 4, 8}) {
        for (const Map& map : kMaps) TestMap(map, batch, resident);
      }
      for (int64_t parts = 1; parts < 5000; ++parts) TestParts(parts, resident);
    }
  }
  // No GPU of today holds as many.
  TestParts(3, 5000);
  return Verdict();
}
