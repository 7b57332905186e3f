// Launches GroupNorm, with or without SiLU, on a GPU.
#ifndef MAGVIT_GROUP_NORM_SILU_GROUP_NORM_CUDA_H_
#define MAGVIT_GROUP_NORM_SILU_GROUP_NORM_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "magvit/operators.h"

namespace magvit {

// Bytes of workspace (32-byte aligned) that this shape, or one with smaller dimensions, needs.
size_t GroupNormWorkspaceBytes(const magvit_shape& shape, int64_t num_groups);

// As magvit_group_norm, with device pointers (those in `options` too). Reads the input twice and
// writes the output once. Only enqueues a memset and two kernels on `stream`: no allocation and no
// synchronisation, so it can be captured in a CUDA graph. Results repeat bit for bit on one GPU
// model. Other models cut the input differently, which changes the rounding of the moments.
cudaError_t LaunchGroupNorm(const void* input, magvit_dtype dtype, const magvit_shape& shape,
                            const magvit_group_norm_options& options, void* output, void* workspace,
                            cudaStream_t stream);

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_GROUP_NORM_CUDA_H_
