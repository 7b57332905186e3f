// The two passes of GroupNorm one by one, with sums made in the first (or, where nothing is
// normalised, in the second) and with a border around what the second writes.
#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "group_norm_silu/feature_sources.cuh"
#include "group_norm_silu/options.h"
#include "group_norm_silu/pass_plans.cuh"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"

namespace magvit {
namespace {

template <typename T>
using Stored = StoredFeatures<T, kMapVector>;

template <typename T, typename TSum>
using Summed = SummedFeatures<T, TSum, kMapVector>;

bool HasAddends(const magvit_cuda_addends& addends) {
  return addends.bias != nullptr || addends.residual != nullptr;
}

// Calls `use` with a null pointer of the C++ type of `dtype`.
template <typename Use>
void WithType(magvit_dtype dtype, const Use& use) {
  if (dtype == MAGVIT_FLOAT32) {
    use(static_cast<float*>(nullptr));
  } else {
    use(static_cast<Half*>(nullptr));
  }
}

template <typename T, typename TSum>
Summed<T, TSum> SumSource(const magvit_cuda_map& features, const magvit_cuda_addends& addends,
                          void* sum) {
  return {static_cast<const T*>(features.data), addends.bias,
          static_cast<const TSum*>(addends.residual), static_cast<TSum*>(sum)};
}

// Calls `use` with the source that reads `features` and adds `addends`.
template <typename Use>
void WithSource(const magvit_cuda_map& features, const magvit_cuda_addends& addends,
                magvit_dtype sum_type, void* sum, const Use& use) {
  WithType(features.dtype, [&](auto* feature) {
    using T = std::remove_pointer_t<decltype(feature)>;
    if (!HasAddends(addends)) {
      use(Stored<T>{static_cast<const T*>(features.data)});
      return;
    }
    WithType(sum_type, [&](auto* total) {
      using TSum = std::remove_pointer_t<decltype(total)>;
      use(SumSource<T, TSum>(features, addends, sum));
    });
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
  return shape.batch * (3 * shape.channels * static_cast<int64_t>(sizeof(float)) +
                        num_groups * magvit::kChannelsLastBlocks *
                            magvit::TileColumns<magvit::kMapVector>(shape.channels).tiles *
                            static_cast<int64_t>(sizeof(magvit::Moments)));
}

int32_t magvit_cuda_statistics(magvit_cuda_map features, magvit_cuda_addends addends,
                               magvit_cuda_map sum, const magvit_group_norm_options* options,
                               void* workspace, void* stream) {
  using namespace magvit;
  if (options == nullptr || workspace == nullptr || !AreValid(features, addends, sum.dtype) ||
      !IsValid(sum) || HasBorder(sum) || !AreAlike(features, sum) ||
      (!HasAddends(addends) && sum.data != features.data) ||
      CheckGroupNorm(features.dtype, AsShape(features), *options) != MAGVIT_OK) {
    return cudaErrorInvalidValue;
  }
  const magvit_shape shape = AsShape(features);
  WithSource(features, addends, sum.dtype, sum.data, [&](const auto& source) {
    LaunchChannelsLastStatistics(source, shape, *options, CutWorkspace(workspace, shape),
                                 static_cast<cudaStream_t>(stream));
  });
  return cudaGetLastError();
}

int32_t magvit_cuda_apply(magvit_cuda_map features, magvit_cuda_addends addends,
                          magvit_dtype sum_type, const magvit_group_norm_options* options,
                          const void* workspace, magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (!AreValid(features, addends, sum_type) || !IsValid(output) || !AreAlike(features, output)) {
    return cudaErrorInvalidValue;
  }
  const magvit_shape shape = AsShape(features);
  NormalizationView normalization = {};
  magvit_activation activation = MAGVIT_NO_ACTIVATION;
  if (options != nullptr) {
    if (workspace == nullptr || CheckGroupNorm(features.dtype, shape, *options) != MAGVIT_OK) {
      return cudaErrorInvalidValue;
    }
    normalization = CutWorkspace(const_cast<void*>(workspace), shape).normalization;
    activation = options->activation;
  }
  WithSource(features, addends, sum_type, nullptr, [&](const auto& source) {
    WithType(output.dtype, [&](auto* written) {
      auto* target = static_cast<decltype(written)>(output.data);
      const auto queue = static_cast<cudaStream_t>(stream);
      if (HasBorder(output)) {
        LaunchChannelsLastApply(source, shape, normalization, activation, PlacesOf(output), target,
                                queue);
      } else {
        LaunchChannelsLastApply(source, shape, normalization, activation,
                                PackedPlaces{shape.positions}, target, queue);
      }
    });
  });
  return cudaGetLastError();
}
