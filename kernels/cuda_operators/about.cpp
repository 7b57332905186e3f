// The version and error messages of the CUDA operators' library.
#include <cuda_runtime_api.h>

#include "magvit/cuda_operators.h"

const char* magvit_cuda_error_message(int32_t error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

int32_t magvit_cuda_operators_abi() { return MAGVIT_CUDA_OPERATORS_ABI; }
