// Finer maps on the GPU: channels to positions, and positions repeated. Both read each value as
// often as it is written; a position's channels stay side by side, so accesses are whole vectors.
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_vectors.cuh"
#include "cuda_operators/map_views.h"
#include "depth_to_space/block_places.h"
#include "magvit/cuda_operators.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

// kWhole: the output has whole vectors of channels, so a vector comes from one of the source, and
// its biases are one of the aligned bias.
template <typename T, typename TOut, bool kWhole>
struct DepthToSpace {
  PackedView<const T> source;
  const float* bias;  // [channels of the source], or null
  BlockPlaces blocks;
  MapView<TOut> output;

  __device__ void operator()(uint32_t sample, uint32_t position, int first) const {
    const BlockPlaces::Place place = blocks.At(position);
    const int channel = static_cast<int>(place.part) * output.channels + first;
    const T* from = source.At(sample, place.position, channel);
    float values[kMapVector] = {}, added[kMapVector] = {};
    if constexpr (kWhole) {
      LoadFloats<kMapVector>(from, values);
      if (bias != nullptr) LoadFloats<kMapVector>(bias + channel, added);
    } else {
      for (int i = 0; i < kMapVector && first + i < output.channels; ++i) {
        values[i] = ToFloat(from[i]);
        if (bias != nullptr) added[i] = bias[channel + i];
      }
    }
    Vector<TOut, kMapVector> result;
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) result.values[i] = FromFloat<TOut>(values[i] + added[i]);
    StoreVector(result, output.At(sample, position, first));
  }
};

template <typename T, typename TOut>
struct Repetition {
  PackedView<const T> source;
  BlockPlaces blocks;
  MapView<TOut> output;

  __device__ void operator()(uint32_t sample, uint32_t position, int first) const {
    float values[kMapVector];
    LoadFloats<kMapVector>(source.At(sample, blocks.At(position).position, first), values);
    Vector<TOut, kMapVector> result;
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      result.values[i] = FromFloat<TOut>(first + i < output.channels ? values[i] : 0.0f);
    }
    StoreVector(result, output.At(sample, position, first));
  }
};

// Calls `use` with null pointers of the C++ types of both maps, and returns its result.
template <typename Use>
cudaError_t WithTypes(const magvit_cuda_map& source, const magvit_cuda_map& output,
                      const Use& use) {
  return WithType(source.dtype, [&](auto* from) {
    return WithType(output.dtype, [&](auto* to) { return use(from, to); });
  });
}

// Whether they are maps of one batch, and the blocks make the one's sizes of the other's.
bool AreValid(const magvit_cuda_map& source, const int64_t* block, const magvit_cuda_map& output) {
  return IsValid(source) && !HasBorder(source) && IsValid(output) && source.batch == output.batch &&
         BlocksFit(source.sizes, block, output.sizes);
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_depth_to_space(magvit_cuda_map features, const float* bias,
                                   const int64_t* block, magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (block == nullptr || !AreValid(features, block, output) ||
      features.channels != block[0] * block[1] * block[2] * output.channels) {
    return cudaErrorInvalidValue;
  }
  const BlockPlaces blocks = PlacesOfBlocks(features.sizes, block, output.sizes);
  const auto queue = static_cast<cudaStream_t>(stream);
  return WithTypes(features, output, [&](auto* from, auto* to) {
    using T = std::remove_pointer_t<decltype(from)>;
    using TOut = std::remove_pointer_t<decltype(to)>;
    const auto source = PackedViewOf<const T>(features);
    if (output.channels % kMapVector == 0 && IsAligned(bias, 32)) {
      const DepthToSpace<T, TOut, true> make = {source, bias, blocks, ViewOf<TOut>(output)};
      return LaunchMakeVectors(make, output, queue);
    }
    const DepthToSpace<T, TOut, false> make = {source, bias, blocks, ViewOf<TOut>(output)};
    return LaunchMakeVectors(make, output, queue);
  });
}

int32_t magvit_cuda_repeat(magvit_cuda_map features, int64_t height, int64_t width,
                           magvit_cuda_map output, void* stream) {
  using namespace magvit;
  const int64_t block[] = {1, height, width};
  if (!AreValid(features, block, output) || features.channels != output.channels ||
      features.pitch != output.pitch) {
    return cudaErrorInvalidValue;
  }
  const BlockPlaces blocks = PlacesOfBlocks(features.sizes, block, output.sizes);
  return WithTypes(features, output, [&](auto* from, auto* to) {
    using T = std::remove_pointer_t<decltype(from)>;
    using TOut = std::remove_pointer_t<decltype(to)>;
    const Repetition<T, TOut> make = {PackedViewOf<const T>(features), blocks,
                                      ViewOf<TOut>(output)};
    return LaunchMakeVectors(make, output, static_cast<cudaStream_t>(stream));
  });
}
