// How kernels are launched here: each may begin while the kernel before it in the stream still ends
// (programmatic dependent launch), where the GPU can do that.
//
// A kernel calls WaitForPredecessor() first, in every thread. Code before that call must not touch
// global memory. Code after it sees all writes of earlier kernels. No thread passes the call before
// the predecessor has ended, so when a kernel has ended, all kernels before it have ended. So an
// ordinary launch after it (a conv of cuDNN's) needs nothing special: it begins once the whole
// kernel has ended, as in any stream. A kernel may call LetSuccessorBegin(), so that the next
// kernel's blocks are placed early and wait.
//
// Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization"; PTX ISA,
// "griddepcontrol".
#ifndef MAGVIT_TENSOR_LAUNCH_CUH_
#define MAGVIT_TENSOR_LAUNCH_CUH_

#include <cuda_runtime.h>

#include "tensor/kernel_facts.h"

namespace magvit {

__device__ __forceinline__ void WaitForPredecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 10 * MAGVIT_OVERLAP_ARCHITECTURE
  cudaGridDependencySynchronize();
#endif
}

__device__ __forceinline__ void LetSuccessorBegin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 10 * MAGVIT_OVERLAP_ARCHITECTURE
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Blocks of a kernel that the current GPU holds at once: one wave.
template <typename... Parameters>
cudaError_t CountResidentBlocks(void (*kernel)(Parameters...), int threads, int64_t* blocks) {
  KernelFacts facts;
  const cudaError_t error = FindKernelFacts(reinterpret_cast<const void*>(kernel), threads, &facts);
  *blocks = facts.resident_blocks;
  return error;
}

// Enqueues a kernel that begins with WaitForPredecessor(), with dynamic shared memory.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchWithShared(void (*kernel)(Parameters...), dim3 grid, int threads,
                             int shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
  KernelFacts facts;
  const cudaError_t error = FindKernelFacts(reinterpret_cast<const void*>(kernel), threads, &facts);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = facts.may_overlap ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// The same without.
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, int threads, cudaStream_t stream,
                   const Arguments&... arguments) {
  return LaunchWithShared(kernel, grid, threads, 0, stream, arguments...);
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_LAUNCH_CUH_
