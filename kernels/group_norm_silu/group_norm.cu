// Plans and launches GroupNorm on the GPU.
#include <algorithm>
#include <cstdint>

#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/group_norm_cuda.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/pass_plans.cuh"
#include "tensor/places.h"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

template <typename T, int kVector>
void LaunchChannelsFirst(const T* input, const magvit_shape& shape,
                         const magvit_group_norm_options& options, T* output,
                         const Workspace& workspace, cudaStream_t stream) {
  const BlockPlan plan = PlanStatistics<kVector>(shape, options.num_groups);
  const auto batch = static_cast<unsigned>(shape.batch);
  const auto channels = static_cast<int>(shape.channels);
  const auto groups = static_cast<int>(options.num_groups);
  const dim3 grid(batch * groups, static_cast<unsigned>(plan.blocks));
  ChannelsFirstStatistics<T, kVector><<<grid, kStatisticsThreads, 0, stream>>>(
      input, channels / groups * shape.positions, plan.block_length, workspace.partials);
  FinishStatistics<<<batch * groups, kFinishThreads, 0, stream>>>(
      workspace.partials, plan.blocks, options, channels, workspace.normalization);

  const int64_t steps = DivideUp(shape.positions, int64_t{kApplyThreads} * kVector);
  const dim3 planes(batch * channels, static_cast<unsigned>(std::min(steps, kApplyBlocks)));
  ApplyChannelsFirst<T, kVector><<<planes, kApplyThreads, 0, stream>>>(
      input, shape.positions, workspace.normalization, options.activation, output);
}

template <typename T, int kVector>
void Launch(const T* input, const magvit_shape& shape, const magvit_group_norm_options& options,
            T* output, void* workspace_memory, cudaStream_t stream) {
  const Workspace workspace = CutWorkspace(workspace_memory, shape);
  if (shape.layout == MAGVIT_CHANNELS_FIRST) {
    LaunchChannelsFirst<T, kVector>(input, shape, options, output, workspace, stream);
    return;
  }
  const StoredFeatures<T, kVector> source = {input};
  LaunchChannelsLastStatistics(source, shape, options, workspace, stream);
  LaunchChannelsLastApply(source, shape, workspace.normalization, options.activation,
                          PackedPlaces{shape.positions}, output, stream);
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
