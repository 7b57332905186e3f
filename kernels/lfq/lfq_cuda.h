// Launches LFQ on a GPU.
#ifndef MAGVIT_LFQ_LFQ_CUDA_H_
#define MAGVIT_LFQ_LFQ_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "magvit/operators.h"

namespace magvit {

// As magvit_lfq, with device pointers: one read of the latents, one write of ids (and of `packed`
// unless it is null). Only enqueues one kernel on `stream`: no allocation, no synchronisation, so
// it can be captured in a CUDA graph.
cudaError_t LaunchLfq(const void* latents, magvit_dtype dtype, const magvit_shape& shape,
                      int32_t* ids, uint8_t* packed, cudaStream_t stream);

}  // namespace magvit

#endif  // MAGVIT_LFQ_LFQ_CUDA_H_
