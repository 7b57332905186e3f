// Token ids to the rows of a codebook.
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_vectors.cuh"
#include "cuda_operators/map_views.h"
#include "magvit/cuda_operators.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

constexpr float kNoValue = __builtin_nanf("");

template <typename T>
struct CodebookRows {
  const int32_t* ids;
  int64_t positions;
  const float* codebook;
  int64_t rows;
  MapView<T> output;

  __device__ void operator()(uint32_t sample, uint32_t position, int first) const {
    const int32_t id = ids[sample * positions + position];
    const bool is_row = id >= 0 && id < rows;
    float row[kMapVector] = {};
    if (is_row) LoadFloats<kMapVector>(codebook + id * output.pitch + first, row);
    Vector<T, kMapVector> values;
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      const float value = is_row ? row[i] : kNoValue;
      values.values[i] = FromFloat<T>(first + i < output.channels ? value : 0.0f);
    }
    StoreVector(values, output.At(sample, position, first));
  }
};

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_codebook_rows(const int32_t* ids, const float* codebook, int64_t rows,
                                  magvit_cuda_map output, void* stream) {
  using namespace magvit;
  if (ids == nullptr || codebook == nullptr || !IsAligned(codebook, 32) || rows < 1 ||
      !IsValid(output)) {
    return cudaErrorInvalidValue;
  }
  return WithType(output.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const CodebookRows<T> make = {ids, Positions(output), codebook, rows, ViewOf<T>(output)};
    return LaunchMakeVectors(make, output, static_cast<cudaStream_t>(stream));
  });
}
