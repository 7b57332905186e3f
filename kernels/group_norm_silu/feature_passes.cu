// The two passes of GroupNorm as separate calls. The first pass makes the sums (or the second, if
// nothing is normalised). The second pass writes its output inside a border.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_views.h"
#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/options.h"
#include "group_norm_silu/pass_plans.cuh"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"

namespace magvit {
namespace {

template <typename T>
using Stored = StoredFeatures<T, kMapVector>;

bool HasAddends(const magvit_cuda_addends& addends) {
  return addends.bias != nullptr || addends.residual != nullptr;
}

// Calls `use` with the source that reads `features`, and returns its result.
template <typename Use>
cudaError_t WithStored(const magvit_cuda_map& features, const Use& use) {
  return WithType(features.dtype, [&](auto* feature) {
    using T = std::remove_pointer_t<decltype(feature)>;
    return use(Stored<T>{static_cast<const T*>(features.data)});
  });
}

// Calls `use` with the source that reads `features` and adds any `addends`; returns its result.
template <typename Use>
cudaError_t WithSource(const magvit_cuda_map& features, const magvit_cuda_addends& addends,
                       magvit_dtype sum_type, void* sum, const Use& use) {
  if (!HasAddends(addends)) return WithStored(features, use);
  return WithType(features.dtype, [&](auto* feature) {
    return WithType(sum_type, [&](auto* total) {
      using T = std::remove_pointer_t<decltype(feature)>;
      using TSum = std::remove_pointer_t<decltype(total)>;
      const auto* values = static_cast<const T*>(features.data);
      const auto* residual = static_cast<const TSum*>(addends.residual);
      auto* target = static_cast<TSum*>(sum);
      if (residual == nullptr) {
        return use(
            SummedFeatures<T, TSum, kMapVector, false>{values, addends.bias, residual, target});
      }
      return use(SummedFeatures<T, TSum, kMapVector, true>{values, addends.bias, residual, target});
    });
  });
}

// Calls `use` with the typed data and the places of `map`, and returns its result.
template <typename Use>
cudaError_t WithOutput(const magvit_cuda_map& map, const Use& use) {
  return WithType(map.dtype, [&](auto* element) {
    auto* data = static_cast<decltype(element)>(map.data);
    if (HasBorder(map)) return use(data, PlacesOf(map));
    return use(data, PackedPlaces{static_cast<uint32_t>(Positions(map))});
  });
}

bool AreValid(const magvit_cuda_map& features, const magvit_cuda_addends& addends,
              magvit_dtype sum_type) {
  if (!IsValid(features) || HasBorder(features) || !IsAligned(addends.residual, 32)) return false;
  if (HasAddends(addends)) return sum_type == MAGVIT_FLOAT32 || sum_type == MAGVIT_FLOAT16;
  return sum_type == features.dtype;
}

}  // namespace
}  // namespace magvit

int64_t magvit_cuda_workspace_bytes(magvit_cuda_map features, int64_t num_groups) {
  const magvit_shape shape = magvit::AsShape(features);
  const int tiles =
      magvit::TileColumns(shape.channels, magvit::kMapVector, magvit::kStatisticsThreads).tiles;
  const int64_t conv_tiles = magvit::DivideUp(shape.positions, magvit::kConvTilePositions);
  return magvit::WorkspaceBytes(shape, shape.batch * std::max<int64_t>(tiles, conv_tiles),
                                num_groups);
}

int32_t magvit_cuda_statistics(magvit_cuda_map features, magvit_cuda_addends addends,
                               magvit_cuda_map sum, const magvit_group_norm_options* options,
                               void* workspace, uint32_t* arrivals, void* stream) {
  using namespace magvit;
  if (options == nullptr || workspace == nullptr || arrivals == nullptr ||
      !AreValid(features, addends, sum.dtype) || !IsValid(sum) || HasBorder(sum) ||
      !AreAlike(features, sum) || (!HasAddends(addends) && sum.data != features.data) ||
      CheckGroupNorm(features.dtype, AsShape(features), *options) != MAGVIT_OK) {
    return cudaErrorInvalidValue;
  }
  const magvit_shape shape = AsShape(features);
  const StatisticsTarget target = TargetIn(workspace, arrivals, shape, *options);
  return WithSource(features, addends, sum.dtype, sum.data, [&](const auto& source) {
    return LaunchChannelsLastStatistics(source, shape, target, static_cast<cudaStream_t>(stream));
  });
}

int32_t magvit_cuda_apply(magvit_cuda_map features, magvit_cuda_addends addends,
                          magvit_dtype sum_type, const magvit_group_norm_options* options,
                          const void* workspace, magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (!AreValid(features, addends, sum_type) || !IsValid(output) || !AreAlike(features, output)) {
    return cudaErrorInvalidValue;
  }
  const magvit_shape shape = AsShape(features);
  const auto queue = static_cast<cudaStream_t>(stream);
  if (options == nullptr) {
    const Unchanged unchanged = {static_cast<int>(shape.channels)};
    return WithSource(features, addends, sum_type, nullptr, [&](const auto& source) {
      return WithOutput(output, [&](auto* data, const auto& places) {
        return LaunchChannelsLastApply(source, shape, unchanged, places, data, queue);
      });
    });
  }
  if (workspace == nullptr || HasAddends(addends) ||
      CheckGroupNorm(features.dtype, shape, *options) != MAGVIT_OK) {
    return cudaErrorInvalidValue;
  }
  const NormalizationView normalization = NormalizationIn(const_cast<void*>(workspace), shape);
  return WithStored(features, [&](const auto& source) {
    return WithOutput(output, [&](auto* data, const auto& places) {
      return LaunchChannelsLastNormalization(source, shape, normalization, options->activation,
                                             places, data, queue);
    });
  });
}
