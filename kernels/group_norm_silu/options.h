// The checks on GroupNorm's options that the CPU and CUDA implementations share.
#ifndef MAGVIT_GROUP_NORM_SILU_OPTIONS_H_
#define MAGVIT_GROUP_NORM_SILU_OPTIONS_H_

#include <cmath>
#include <cstdint>

#include "magvit/operators.h"
#include "tensor/shape.h"

namespace magvit {

inline magvit_status CheckGroupNorm(magvit_dtype dtype, const magvit_shape& shape,
                                    const magvit_group_norm_options& options) {
  const magvit_status status = CheckTensor(dtype, shape);
  if (status != MAGVIT_OK) return status;
  if (options.num_groups < 1 || shape.channels % options.num_groups != 0) return MAGVIT_BAD_GROUPS;
  if (!std::isfinite(options.epsilon) || options.epsilon < 0.0f) return MAGVIT_BAD_EPSILON;
  if (options.activation != MAGVIT_NO_ACTIVATION && options.activation != MAGVIT_SILU) {
    return MAGVIT_BAD_ENUM;
  }
  if ((options.weight == nullptr) != (options.bias == nullptr)) return MAGVIT_NULL_POINTER;
  return MAGVIT_OK;
}

// The index of the affine parameters of (sample, channel) in weight and bias.
MAGVIT_HOST_DEVICE int64_t AffineIndex(const magvit_group_norm_options& options, int64_t channels,
                                       int64_t sample, int64_t channel) {
  return (options.affine_per_sample != 0 ? sample * channels : 0) + channel;
}

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_OPTIONS_H_
