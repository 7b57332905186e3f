// Asks the driver about kernels.
#include "tensor/kernel_facts.h"

#include <map>
#include <mutex>
#include <utility>

namespace magvit {
namespace {

// Overlapping launches can be captured in a CUDA graph since CUDA 12.3.
constexpr int kOverlapDriver = 12030;

cudaError_t AskDriver(const void* kernel, int threads, int device, KernelFacts* facts) {
  int blocks = 0, multiprocessors = 0, driver = 0;
  cudaFuncAttributes attributes;
  cudaError_t error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, 0);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  error = cudaDriverGetVersion(&driver);
  if (error != cudaSuccess) return error;
  error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  facts->resident_blocks = int64_t{blocks} * multiprocessors;
  // The version of the loaded code, not of the GPU: PTX of an older architecture can run on the
  // GPU, and does not wait.
  facts->may_overlap =
      attributes.ptxVersion >= MAGVIT_OVERLAP_ARCHITECTURE && driver >= kOverlapDriver;
  return facts->resident_blocks > 0 ? cudaSuccess : cudaErrorInvalidConfiguration;
}

}  // namespace

cudaError_t FindKernelFacts(const void* kernel, int threads, KernelFacts* facts) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, KernelFacts> known;
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find({kernel, device});
  if (found != known.end()) {
    *facts = found->second;
    return cudaSuccess;
  }
  const cudaError_t asked = AskDriver(kernel, threads, device, facts);
  if (asked == cudaSuccess) known[{kernel, device}] = *facts;
  return asked;
}

}  // namespace magvit
