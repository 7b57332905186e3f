// The input of a pass over a channels-last feature map: stored values, or sums that the pass makes
// while it reads. A pass fetches several vectors before it uses the first, to keep enough memory
// requests in flight.
#ifndef MAGVIT_GROUP_NORM_SILU_FEATURE_SOURCES_CUH_
#define MAGVIT_GROUP_NORM_SILU_FEATURE_SOURCES_CUH_

#include <cstddef>
#include <cstdint>

#include "tensor/half.h"
#include "tensor/vector_access.cuh"

namespace magvit {

// How many of a source's values, each of this many bytes, a thread fetches at once. 64 bytes in
// flight keep the memory busy. More would take registers that other blocks need.
template <size_t kBytes>
constexpr int kBatchOf = kBytes <= 16 ? 4 : 2;

// A source of values that are stored in memory.
template <typename T, int kVector>
struct StoredFeatures {
  static constexpr int kWidth = kVector;
  static constexpr int kBatch = kBatchOf<sizeof(Vector<T, kVector>)>;
  struct Constants {};
  using Fetched = Vector<T, kVector>;

  const T* features;

  __device__ Constants ForChannels(int, int) const { return {}; }
  __device__ Fetched Fetch(int64_t offset) const { return LoadVector<kVector>(features + offset); }
  __device__ Vector<T, kVector> Value(const Fetched& fetched, const Constants&) const {
    return fetched;
  }
  __device__ void Keep(const Vector<T, kVector>&, int64_t) const {}
};

// A source of sums: a conv's result plus its bias and, if kHasResidual, a residual, rounded once to
// TSum.
template <typename T, typename TSum, int kVector, bool kHasResidual>
struct SummedFeatures {
  static constexpr int kWidth = kVector;
  static constexpr int kBatch =
      kBatchOf<sizeof(Vector<T, kVector>) + (kHasResidual ? sizeof(Vector<TSum, kVector>) : 0)>;
  struct Constants {
    float bias[kVector];
  };
  struct Fetched {
    Vector<T, kVector> features;
    Vector<TSum, kVector> residual;
  };

  const T* features;
  const float* bias;  // [C], or null
  const TSum* residual;
  TSum* sum;  // where Keep puts the sums; may be `features` if the types are the same

  __device__ Constants ForChannels(int first, int channels) const {
    Constants constants;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      constants.bias[i] = bias != nullptr && first + i < channels ? bias[first + i] : 0.0f;
    }
    return constants;
  }

  __device__ Fetched Fetch(int64_t offset) const {
    Fetched fetched = {};
    fetched.features = LoadVector<kVector>(features + offset);
    if constexpr (kHasResidual) fetched.residual = LoadVector<kVector>(residual + offset);
    return fetched;
  }

  __device__ Vector<TSum, kVector> Value(const Fetched& fetched, const Constants& constants) const {
    Vector<TSum, kVector> value;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      float sum = ToFloat(fetched.features.values[i]) + constants.bias[i];
      if constexpr (kHasResidual) sum += ToFloat(fetched.residual.values[i]);
      value.values[i] = FromFloat<TSum>(sum);
    }
    return value;
  }

  __device__ void Keep(const Vector<TSum, kVector>& value, int64_t offset) const {
    StoreVector(value, sum + offset);
  }
};

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_FEATURE_SOURCES_CUH_
