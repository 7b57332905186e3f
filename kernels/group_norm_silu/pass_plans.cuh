// Cuts the two passes of GroupNorm into blocks, launches them, and lays out the workspace between
// them.
#ifndef MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_
#define MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_

#include <algorithm>
#include <cstdint>

#include "group_norm_silu/apply_kernels.cuh"
#include "group_norm_silu/block_plans.h"
#include "group_norm_silu/statistics_kernels.cuh"
#include "tensor/launch.cuh"
#include "tensor/shape.h"

namespace magvit {

inline NormalizationView NormalizationIn(void* workspace, const magvit_shape& shape) {
  const int64_t row = NormalizationRow(shape.channels);
  float* mean = static_cast<float*>(workspace);
  return {mean, mean + shape.batch * row, mean + 2 * shape.batch * row, row};
}

// The normalisation comes first, then the partials.
inline StatisticsTarget TargetIn(void* workspace, uint32_t* arrivals, const magvit_shape& shape,
                                 const magvit_group_norm_options& options) {
  const NormalizationView normalization = NormalizationIn(workspace, shape);
  float* end = normalization.shift + shape.batch * normalization.row;
  return {options, static_cast<int>(shape.channels), reinterpret_cast<Partial*>(end), arrivals,
          normalization};
}

// Bytes of both, on any GPU. `parts` of the statistics pass's grid are cut into blocks, and each
// block writes `partials`.
inline int64_t WorkspaceBytes(const magvit_shape& shape, int64_t parts, int64_t partials) {
  return 3 * shape.batch * NormalizationRow(shape.channels) * int64_t{sizeof(float)} +
         std::max(kMostBlocks, parts) * partials * int64_t{sizeof(Partial)};
}

// Channels-last statistics of a source.
template <typename Source>
cudaError_t LaunchChannelsLastStatistics(const Source& source, const magvit_shape& shape,
                                         const StatisticsTarget& target, cudaStream_t stream) {
  const auto kernel = ChannelsLastStatistics<Source>;
  int64_t resident;
  const cudaError_t error = CountResidentBlocks(kernel, kStatisticsThreads, &resident);
  if (error != cudaSuccess) return error;
  const ColumnTile tile = TileColumns(shape.channels, Source::kWidth, kStatisticsThreads);
  const BlockPlan plan = PlanPass(shape.batch, shape.positions, tile, Source::kBatch, resident);
  const dim3 grid(static_cast<unsigned>(shape.batch), static_cast<unsigned>(plan.blocks),
                  tile.tiles);
  return Launch(kernel, grid, kStatisticsThreads, stream, source,
                static_cast<uint32_t>(shape.positions), ChannelPitch(shape), tile, target);
}

// Reads a source, changes its values and writes them to `places`.
template <typename Source, typename Change, typename Places, typename TOut>
cudaError_t LaunchChannelsLastApply(const Source& source, const magvit_shape& shape,
                                    const Change& change, const Places& places, TOut* output,
                                    cudaStream_t stream) {
  const auto kernel = ApplyChannelsLast<Source, Change, Places, TOut>;
  int64_t resident;
  const cudaError_t error = CountResidentBlocks(kernel, kPassThreads, &resident);
  if (error != cudaSuccess) return error;
  const int64_t pitch = ChannelPitch(shape);
  const ColumnTile tile = TileColumns(pitch, Source::kWidth, kPassThreads);
  const BlockPlan plan = PlanPass(shape.batch, shape.positions, tile, Source::kBatch, resident);
  const dim3 grid(static_cast<unsigned>(shape.batch), static_cast<unsigned>(plan.blocks),
                  tile.tiles);
  return Launch(kernel, grid, kPassThreads, stream, source, static_cast<uint32_t>(shape.positions),
                static_cast<int>(shape.channels), pitch, tile, change, places, output);
}

// The same with a normalisation. Only the case that encoders run, SiLU on full channels, has a
// kernel without code for padding.
template <typename Source, typename Places, typename TOut>
cudaError_t LaunchChannelsLastNormalization(const Source& source, const magvit_shape& shape,
                                            const NormalizationView& normalization,
                                            magvit_activation activation, const Places& places,
                                            TOut* output, cudaStream_t stream) {
  const auto channels = static_cast<int>(shape.channels);
  const auto launch = [&](const auto& change) {
    return LaunchChannelsLastApply(source, shape, change, places, output, stream);
  };
  if (activation != MAGVIT_SILU) {
    return launch(Normalized<MAGVIT_NO_ACTIVATION, false>{normalization, channels});
  }
  if (shape.channels != ChannelPitch(shape)) {
    return launch(Normalized<MAGVIT_SILU, false>{normalization, channels});
  }
  return launch(Normalized<MAGVIT_SILU, true>{normalization, channels});
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_PASS_PLANS_CUH_
