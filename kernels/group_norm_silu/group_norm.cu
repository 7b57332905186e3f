// Plans and launches GroupNorm on the GPU.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/group_norm_cuda.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/pass_plans.cuh"
#include "tensor/places.h"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

// Alignment in the workspace: 8 floats are read at once.
constexpr int64_t kWorkspaceAlignment = 32;

template <typename T, int kVector, magvit_activation kActivation>
cudaError_t ApplyToPlanes(const T* input, const magvit_shape& shape,
                          const NormalizationView& normalization, T* output, cudaStream_t stream) {
  const auto kernel = ApplyChannelsFirst<T, kVector, kActivation>;
  int64_t resident;
  const cudaError_t error = CountResidentBlocks(kernel, kPassThreads, &resident);
  if (error != cudaSuccess) return error;
  const int64_t planes = shape.batch * shape.channels;
  const int64_t steps = DivideUp(shape.positions, int64_t{kPassThreads} * kVector);
  const dim3 grid(static_cast<unsigned>(planes),
                  static_cast<unsigned>(std::min(steps, BlocksPerPart(planes, resident))));
  return Launch(kernel, grid, kPassThreads, stream, input, shape.positions,
                static_cast<int>(shape.channels), normalization, output);
}

template <typename T, int kVector>
cudaError_t LaunchChannelsFirst(const T* input, const magvit_shape& shape,
                                const StatisticsTarget& target, T* output, cudaStream_t stream) {
  const auto kernel = ChannelsFirstStatistics<T, kVector>;
  int64_t resident;
  cudaError_t error = CountResidentBlocks(kernel, kPassThreads, &resident);
  if (error != cudaSuccess) return error;
  const int64_t groups = shape.batch * target.options.num_groups;
  const int64_t group_size = shape.channels / target.options.num_groups * shape.positions;
  constexpr int64_t kStep = int64_t{kPassThreads} * kVector;
  const BlockPlan plan =
      CutSteps(DivideUp(group_size, kStep), BlocksPerPart(groups, resident), kLeastStatisticsSteps);
  const dim3 grid(static_cast<unsigned>(groups), static_cast<unsigned>(plan.blocks));
  error = Launch(kernel, grid, kPassThreads, stream, input, group_size, plan.block_steps * kStep,
                 target);
  if (error != cudaSuccess) return error;
  const auto apply = target.options.activation == MAGVIT_SILU
                         ? ApplyToPlanes<T, kVector, MAGVIT_SILU>
                         : ApplyToPlanes<T, kVector, MAGVIT_NO_ACTIVATION>;
  return apply(input, shape, target.normalization, output, stream);
}

template <typename T, int kVector>
cudaError_t LaunchChannelsLast(const T* input, const magvit_shape& shape,
                               const StatisticsTarget& target, T* output, cudaStream_t stream) {
  const StoredFeatures<T, kVector> source = {input};
  const cudaError_t error = LaunchChannelsLastStatistics(source, shape, target, stream);
  if (error != cudaSuccess) return error;
  const PackedPlaces places = {static_cast<uint32_t>(shape.positions)};
  return LaunchChannelsLastNormalization(source, shape, target.normalization,
                                         target.options.activation, places, output, stream);
}

template <typename T>
cudaError_t LaunchWidest(const void* input, const magvit_shape& shape,
                         const StatisticsTarget& target, void* output, cudaStream_t stream) {
  constexpr int kVector = kWidestVector<T>;
  const bool channels_first = shape.layout == MAGVIT_CHANNELS_FIRST;
  const int64_t row = channels_first ? shape.positions : ChannelPitch(shape);
  const bool aligned = IsAligned(input, 16) && IsAligned(output, 16) && row % kVector == 0;
  const auto launch = channels_first
                          ? (aligned ? LaunchChannelsFirst<T, kVector> : LaunchChannelsFirst<T, 1>)
                          : (aligned ? LaunchChannelsLast<T, kVector> : LaunchChannelsLast<T, 1>);
  return launch(static_cast<const T*>(input), shape, target, static_cast<T*>(output), stream);
}

// Counters of arrivals: one for each set of statistics blocks that share a last one.
int64_t ArrivalsBytes(const magvit_shape& shape, int64_t num_groups) {
  const int64_t sets =
      shape.layout == MAGVIT_CHANNELS_FIRST ? shape.batch * num_groups : shape.batch;
  return DivideUp(sets * int64_t{sizeof(uint32_t)}, kWorkspaceAlignment) * kWorkspaceAlignment;
}

}  // namespace

size_t GroupNormWorkspaceBytes(const magvit_shape& shape, int64_t num_groups) {
  // A channels-first block writes one partial, a channels-last block one for each group. Narrow
  // accesses need more column tiles than wide ones.
  const int64_t bytes =
      shape.layout == MAGVIT_CHANNELS_FIRST
          ? WorkspaceBytes(shape, shape.batch * num_groups, 1)
          : WorkspaceBytes(shape,
                           shape.batch * TileColumns(shape.channels, 1, kStatisticsThreads).tiles,
                           num_groups);
  return ArrivalsBytes(shape, num_groups) + bytes;
}

cudaError_t LaunchGroupNorm(const void* input, magvit_dtype dtype, const magvit_shape& shape,
                            const magvit_group_norm_options& options, void* output, void* workspace,
                            cudaStream_t stream) {
  if (CheckGroupNorm(dtype, shape, options) != MAGVIT_OK) return cudaErrorInvalidValue;
  // Positions are counted in 32 bits.
  if (shape.positions > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidValue;
  if (IsEmpty(shape)) return cudaSuccess;

  // The workspace is not initialised.
  const int64_t bytes = ArrivalsBytes(shape, options.num_groups);
  const cudaError_t error = cudaMemsetAsync(workspace, 0, bytes, stream);
  if (error != cudaSuccess) return error;
  const StatisticsTarget target = TargetIn(static_cast<char*>(workspace) + bytes,
                                           static_cast<uint32_t*>(workspace), shape, options);
  const auto launch = dtype == MAGVIT_FLOAT32 ? LaunchWidest<float> : LaunchWidest<Half>;
  return launch(input, shape, target, output, stream);
}

}  // namespace magvit
