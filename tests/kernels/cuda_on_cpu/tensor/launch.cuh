// The launches of kernels/tensor/launch.cuh, run at once on the CPU.
#ifndef MAGVIT_TENSOR_LAUNCH_CUH_
#define MAGVIT_TENSOR_LAUNCH_CUH_

#include "cuda_on_cpu.h"

namespace magvit {

inline void WaitForPredecessor() {}
inline void LetSuccessorBegin() {}

template <typename... Parameters>
cudaError_t CountResidentBlocks(void (*)(Parameters...), int, int64_t* blocks) {
  *blocks = cuda_on_cpu::resident_blocks;
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, int threads, cudaStream_t,
                   const Arguments&... arguments) {
  cuda_on_cpu::Run(kernel, grid, threads, arguments...);
  return cudaSuccess;
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_LAUNCH_CUH_
