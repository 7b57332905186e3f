// Plans and launches GroupNorm on the GPU.
#include <algorithm>
#include <cstdint>

#include "group_norm_silu/apply_kernels.cuh"
#include "group_norm_silu/group_norm_cuda.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/statistics_kernels.cuh"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

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

Workspace CutWorkspace(void* workspace, const magvit_shape& shape) {
  const int64_t channels = shape.batch * shape.channels;
  float* mean = static_cast<float*>(workspace);
  return {{mean, mean + channels, mean + 2 * channels},
          reinterpret_cast<Moments*>(mean + 3 * channels)};
}

template <typename T, int kVector>
void Launch(const T* input, const magvit_shape& shape, const magvit_group_norm_options& options,
            T* output, void* workspace_memory, cudaStream_t stream) {
  const Workspace workspace = CutWorkspace(workspace_memory, shape);
  const BlockPlan plan = PlanStatistics<kVector>(shape, options.num_groups);
  const auto batch = static_cast<unsigned>(shape.batch);
  const auto blocks = static_cast<unsigned>(plan.blocks);
  const auto channels = static_cast<int>(shape.channels);
  const auto groups = static_cast<int>(options.num_groups);
  const int64_t pitch = ChannelPitch(shape);
  const bool channels_first = shape.layout == MAGVIT_CHANNELS_FIRST;
  const ColumnTile tile = TileColumns<kVector>(channels);
  const int64_t partials = channels_first ? plan.blocks : plan.blocks * tile.tiles;

  if (channels_first) {
    const dim3 grid(batch * groups, blocks);
    ChannelsFirstStatistics<T, kVector><<<grid, kStatisticsThreads, 0, stream>>>(
        input, channels / groups * shape.positions, plan.block_length, workspace.partials);
  } else {
    const dim3 grid(batch, blocks, tile.tiles);
    ChannelsLastStatistics<T, kVector>
        <<<grid, kStatisticsThreads, 0, stream>>>(input, shape.positions, channels, pitch, groups,
                                                  tile, plan.block_length, workspace.partials);
  }

  FinishStatistics<<<batch * groups, kFinishThreads, 0, stream>>>(
      workspace.partials, partials, options, channels, workspace.normalization);

  if (channels_first) {
    const int64_t steps = DivideUp(shape.positions, int64_t{kApplyThreads} * kVector);
    const dim3 grid(batch * channels, static_cast<unsigned>(std::min(steps, kApplyBlocks)));
    ApplyChannelsFirst<T, kVector><<<grid, kApplyThreads, 0, stream>>>(
        input, shape.positions, workspace.normalization, options.activation, output);
  } else {
    const ColumnTile whole = TileColumns<kVector>(pitch);
    const BlockPlan cut = CutSteps(DivideUp(shape.positions, whole.rows), kApplyBlocks, whole.rows);
    const dim3 grid(batch, static_cast<unsigned>(cut.blocks), whole.tiles);
    ApplyChannelsLast<T, kVector><<<grid, kApplyThreads, 0, stream>>>(
        input, shape.positions, channels, pitch, whole, cut.block_length, workspace.normalization,
        options.activation, output);
  }
}

template <typename T>
void LaunchWidest(const void* input, const magvit_shape& shape,
                  const magvit_group_norm_options& options, void* output, void* workspace,
                  cudaStream_t stream) {
  constexpr int kVector = kWidestVector<T>;
  const int64_t row = shape.layout == MAGVIT_CHANNELS_FIRST ? shape.positions : ChannelPitch(shape);
  const bool aligned = IsAligned(input, 16) && IsAligned(output, 16) && row % kVector == 0;
  const auto launch = aligned ? Launch<T, kVector> : Launch<T, 1>;
  launch(static_cast<const T*>(input), shape, options, static_cast<T*>(output), workspace, stream);
}

}  // namespace

size_t GroupNormWorkspaceBytes(const magvit_shape& shape, int64_t num_groups) {
  // A smaller shape can be cut into more blocks than a larger one, but never into more than the
  // limit; and narrow accesses take more column tiles than wide ones.
  const int64_t partials = shape.layout == MAGVIT_CHANNELS_FIRST
                               ? DivideUp(kChannelsFirstBlocks, num_groups)
                               : kChannelsLastBlocks * TileColumns<1>(shape.channels).tiles;
  return shape.batch *
         (3 * shape.channels * sizeof(float) + num_groups * partials * sizeof(Moments));
}

cudaError_t LaunchGroupNorm(const void* input, magvit_dtype dtype, const magvit_shape& shape,
                            const magvit_group_norm_options& options, void* output, void* workspace,
                            cudaStream_t stream) {
  if (CheckGroupNorm(dtype, shape, options) != MAGVIT_OK) return cudaErrorInvalidValue;
  if (IsEmpty(shape)) return cudaSuccess;

  if (dtype == MAGVIT_FLOAT32) {
    LaunchWidest<float>(input, shape, options, output, workspace, stream);
  } else {
    LaunchWidest<Half>(input, shape, options, output, workspace, stream);
  }
  return cudaGetLastError();
}

}  // namespace magvit
