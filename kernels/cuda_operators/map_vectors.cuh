// Kernels that write a map vector by vector: a thread makes one vector of channels at a time.
#ifndef MAGVIT_CUDA_OPERATORS_MAP_VECTORS_CUH_
#define MAGVIT_CUDA_OPERATORS_MAP_VECTORS_CUH_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda_operators/map_checks.h"
#include "tensor/fast_divisor.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/waves.h"

namespace magvit {

constexpr int kVectorThreads = 256;

// Calls `make(sample, position, first channel)` for each vector. Neighbouring threads have
// neighbouring vectors. Grid: (samples, blocks of vectors).
template <typename Make>
__global__ void __launch_bounds__(kVectorThreads)
    MakeVectors(Make make, uint32_t vectors, FastDivisor columns) {
  WaitForPredecessor();
  uint32_t index = blockIdx.y * kVectorThreads + threadIdx.x;
  for (; index < vectors; index += gridDim.y * kVectorThreads) {
    const uint32_t position = columns.Quotient(index);
    const auto column = static_cast<int>(index - position * columns.divisor());
    make(blockIdx.x, position, column * kMapVector);
  }
}

// For all vectors of a valid map, those of padding channels included.
template <typename Make>
cudaError_t LaunchMakeVectors(const Make& make, const magvit_cuda_map& map, cudaStream_t stream) {
  int64_t resident;
  const cudaError_t error = CountResidentBlocks(MakeVectors<Make>, kVectorThreads, &resident);
  if (error != cudaSuccess) return error;
  const int64_t columns = map.pitch / kMapVector;
  // FastDivisor divides no larger numbers.
  if (columns > std::numeric_limits<int32_t>::max() / Positions(map)) return cudaErrorInvalidValue;
  const int64_t vectors = Positions(map) * columns;
  const int64_t blocks =
      std::min(DivideUp(vectors, kVectorThreads), BlocksPerPart(map.batch, resident));
  const dim3 grid(static_cast<unsigned>(map.batch), static_cast<unsigned>(blocks));
  return Launch(MakeVectors<Make>, grid, kVectorThreads, stream, make,
                static_cast<uint32_t>(vectors), FastDivisor(static_cast<uint32_t>(columns)));
}

}  // namespace magvit

#endif  // MAGVIT_CUDA_OPERATORS_MAP_VECTORS_CUH_
