// The facts that a launch needs about a kernel on the current GPU.
#ifndef MAGVIT_TENSOR_KERNEL_FACTS_H_
#define MAGVIT_TENSOR_KERNEL_FACTS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

// The compute capability, times 10, from which a kernel can wait for its predecessor by itself.
#define MAGVIT_OVERLAP_ARCHITECTURE 90

namespace magvit {

struct KernelFacts {
  int64_t resident_blocks = 0;  // that the GPU holds at once
  bool may_overlap = false;     // begin before its predecessor has ended
};

// The facts about a kernel in blocks of `threads` on the current GPU. The driver is asked once, and
// the answer is remembered. These are host queries, so they may run while a stream is captured.
cudaError_t FindKernelFacts(const void* kernel, int threads, KernelFacts* facts);

}  // namespace magvit

#endif  // MAGVIT_TENSOR_KERNEL_FACTS_H_
