// Launches the search of a codebook on a GPU.
#ifndef MAGVIT_CODEBOOK_CODEBOOK_CUDA_H_
#define MAGVIT_CODEBOOK_CODEBOOK_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "magvit/operators.h"

namespace magvit {

// Bytes of workspace that this shape, or one with smaller dimensions, needs: about 2 MB, and no
// scores among them.
size_t CodebookWorkspaceBytes(const magvit_shape& shape);

// As magvit_codebook_argmax, with device pointers. Only enqueues two kernels on `stream`: no
// allocation, no synchronisation, so it can be captured in a CUDA graph.
cudaError_t LaunchCodebookArgmax(const void* latents, magvit_dtype dtype, const magvit_shape& shape,
                                 const float* codebook, int64_t rows, int32_t* ids, float* margins,
                                 void* workspace, cudaStream_t stream);

}  // namespace magvit

#endif  // MAGVIT_CODEBOOK_CODEBOOK_CUDA_H_
