// Maps to token ids, by the kernels that the TensorRT plugins run too.
#include <cuda_runtime_api.h>

#include "codebook/codebook_cuda.h"
#include "cuda_operators/map_checks.h"
#include "lfq/lfq_cuda.h"
#include "magvit/cuda_operators.h"

int32_t magvit_cuda_lfq(magvit_cuda_map latents, int32_t* ids, void* stream) {
  using namespace magvit;
  if (ids == nullptr || !IsValid(latents) || HasBorder(latents)) return cudaErrorInvalidValue;
  return LaunchLfq(latents.data, latents.dtype, AsShape(latents), ids, nullptr,
                   static_cast<cudaStream_t>(stream));
}

int64_t magvit_cuda_codebook_workspace_bytes(magvit_cuda_map latents) {
  return static_cast<int64_t>(magvit::CodebookWorkspaceBytes(magvit::AsShape(latents)));
}

int32_t magvit_cuda_codebook_argmax(magvit_cuda_map latents, const float* codebook, int64_t rows,
                                    int32_t* ids, float* margins, void* workspace, void* stream) {
  using namespace magvit;
  if (codebook == nullptr || ids == nullptr || workspace == nullptr || !IsValid(latents) ||
      HasBorder(latents)) {
    return cudaErrorInvalidValue;
  }
  return LaunchCodebookArgmax(latents.data, latents.dtype, AsShape(latents), codebook, rows, ids,
                              margins, workspace, static_cast<cudaStream_t>(stream));
}
