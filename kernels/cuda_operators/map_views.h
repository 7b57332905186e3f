// A `magvit_cuda_map` as kernels read and write it.
#ifndef MAGVIT_CUDA_OPERATORS_MAP_VIEWS_H_
#define MAGVIT_CUDA_OPERATORS_MAP_VIEWS_H_

#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "tensor/half.h"
#include "tensor/host_device.h"

namespace magvit {

// Where the values of a map's interior lie.
template <typename T>
struct MapView {
  T* data;
  BorderedPlaces places;
  int64_t pitch;
  int channels;

  MAGVIT_HOST_DEVICE T* At(uint32_t sample, uint32_t position, int channel) const {
    return data + (int64_t{sample} * places.clip_size + places.At(position)) * pitch + channel;
  }
};

// The same of a map without a border, which takes no division.
template <typename T>
struct PackedView {
  T* data;
  int64_t positions, pitch;
  int channels;

  MAGVIT_HOST_DEVICE T* At(uint32_t sample, uint32_t position, int channel) const {
    return data + (sample * positions + position) * pitch + channel;
  }
};

template <typename T>
MapView<T> ViewOf(const magvit_cuda_map& map) {
  return {static_cast<T*>(map.data), PlacesOf(map), map.pitch, static_cast<int>(map.channels)};
}

template <typename T>
PackedView<T> PackedViewOf(const magvit_cuda_map& map) {
  return {static_cast<T*>(map.data), Positions(map), map.pitch, static_cast<int>(map.channels)};
}

// Calls `use` with a null pointer of the C++ type of `dtype`, and returns its result.
template <typename Use>
auto WithType(magvit_dtype dtype, const Use& use) {
  if (dtype == MAGVIT_FLOAT32) return use(static_cast<float*>(nullptr));
  return use(static_cast<Half*>(nullptr));
}

}  // namespace magvit

#endif  // MAGVIT_CUDA_OPERATORS_MAP_VIEWS_H_
