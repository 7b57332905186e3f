// How the two passes of GroupNorm are cut into blocks, and what lies in the workspace between them.
#ifndef MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_
#define MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_

#include <cstdint>

#include "group_norm_silu/apply_kernels.cuh"
#include "group_norm_silu/statistics_kernels.cuh"
#include "tensor/shape.h"

namespace magvit {

// Statistics blocks of one sample: enough to fill the largest GPUs at batch 1, few enough that
// merging them costs little. A channels-first block sees one group only, a channels-last block all.
constexpr int64_t kChannelsFirstBlocks = 1024;
constexpr int64_t kChannelsLastBlocks = 512;

// Blocks of positions in the grid's second dimension, whose limit is 65,535.
constexpr int64_t kApplyBlocks = 2048;

template <int kVector>
BlockPlan PlanStatistics(const magvit_shape& shape, int64_t groups) {
  if (shape.layout == MAGVIT_CHANNELS_FIRST) {
    constexpr int64_t kStep = int64_t{kStatisticsThreads} * kVector;
    const int64_t group_size = shape.channels / groups * shape.positions;
    return CutSteps(DivideUp(group_size, kStep), DivideUp(kChannelsFirstBlocks, groups), kStep);
  }
  const ColumnTile tile = TileColumns<kVector>(shape.channels);
  return CutSteps(DivideUp(shape.positions, tile.rows), kChannelsLastBlocks, tile.rows);
}

struct Workspace {
  NormalizationView normalization;
  Moments* partials;
};

inline Workspace CutWorkspace(void* workspace, const magvit_shape& shape) {
  const int64_t channels = shape.batch * shape.channels;
  float* mean = static_cast<float*>(workspace);
  return {{mean, mean + channels, mean + 2 * channels},
          reinterpret_cast<Moments*>(mean + 3 * channels)};
}

// Channels-last statistics of a source, to the normalisation in the workspace.
template <typename Source>
void LaunchChannelsLastStatistics(const Source& source, const magvit_shape& shape,
                                  const magvit_group_norm_options& options,
                                  const Workspace& workspace, cudaStream_t stream) {
  constexpr int kVector = Source::kWidth;
  const BlockPlan plan = PlanStatistics<kVector>(shape, options.num_groups);
  const auto batch = static_cast<unsigned>(shape.batch);
  const auto channels = static_cast<int>(shape.channels);
  const auto groups = static_cast<int>(options.num_groups);
  const ColumnTile tile = TileColumns<kVector>(channels);
  const dim3 grid(batch, static_cast<unsigned>(plan.blocks), tile.tiles);
  ChannelsLastStatistics<Source><<<grid, kStatisticsThreads, 0, stream>>>(
      source, shape.positions, channels, ChannelPitch(shape), groups, tile, plan.block_length,
      workspace.partials);
  FinishStatistics<<<batch * groups, kFinishThreads, 0, stream>>>(
      workspace.partials, plan.blocks * tile.tiles, options, channels, workspace.normalization);
}

// Normalises (or, without a normalisation, just takes) a source, activates it and writes it where
// `places` says.
template <typename Source, typename Places, typename TOut>
void LaunchChannelsLastApply(const Source& source, const magvit_shape& shape,
                             const NormalizationView& normalization, magvit_activation activation,
                             const Places& places, TOut* output, cudaStream_t stream) {
  const int64_t pitch = ChannelPitch(shape);
  const ColumnTile tile = TileColumns<Source::kWidth>(pitch);
  const BlockPlan cut = CutSteps(DivideUp(shape.positions, tile.rows), kApplyBlocks, tile.rows);
  const dim3 grid(static_cast<unsigned>(shape.batch), static_cast<unsigned>(cut.blocks),
                  tile.tiles);
  ApplyChannelsLast<Source, Places, TOut><<<grid, kApplyThreads, 0, stream>>>(
      source, shape.positions, static_cast<int>(shape.channels), pitch, tile, cut.block_length,
      normalization, activation, places, output);
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_
