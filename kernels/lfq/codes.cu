// Token ids to the codes that a decoder reads: +1 or -1 for each bit.
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_vectors.cuh"
#include "cuda_operators/map_views.h"
#include "lfq/lfq.h"
#include "magvit/cuda_operators.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

template <typename T>
struct SignCodes {
  const int32_t* ids;
  int64_t positions;
  MapView<T> output;

  __device__ void operator()(uint32_t sample, uint32_t position, int first) const {
    const int32_t id = ids[sample * positions + position];
    Vector<T, kMapVector> codes;
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      codes.values[i] = FromFloat<T>(first + i < output.channels ? LfqSign(id, first + i) : 0.0f);
    }
    StoreVector(codes, output.At(sample, position, first));
  }
};

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_lfq_codes(const int32_t* ids, magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (ids == nullptr || !IsValid(output) || output.channels > kMaxLfqChannels) {
    return cudaErrorInvalidValue;
  }
  return WithType(output.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const SignCodes<T> codes = {ids, Positions(output), ViewOf<T>(output)};
    return LaunchMakeVectors(codes, output, static_cast<cudaStream_t>(stream));
  });
}
