// A CUDA driver of a machine without a GPU: enough for cuDNN's libraries to load, and to plan for a
// GPU that is described to them. Built as libcuda.so.1 by test_cudnn_plans.py.
#include <cstdint>
#include <cstring>

#define MAGVIT_STUB extern "C" __attribute__((visibility("default"))) int

constexpr int kSuccess = 0;
constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE

MAGVIT_STUB cuInit(unsigned) { return kNoDevice; }

MAGVIT_STUB cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

// Functions that cuDNN links to by name. None of them is called while it plans.
#define MAGVIT_NO_DEVICE(name) \
  MAGVIT_STUB name() { return kNoDevice; }
MAGVIT_NO_DEVICE(cuGetErrorString)
MAGVIT_NO_DEVICE(cuLaunchCooperativeKernel)
MAGVIT_NO_DEVICE(cuLaunchKernel)
MAGVIT_NO_DEVICE(cuLaunchKernelEx)
MAGVIT_NO_DEVICE(cuModuleGetFunction)
MAGVIT_NO_DEVICE(cuModuleLoadData)
MAGVIT_NO_DEVICE(cuModuleUnload)
MAGVIT_NO_DEVICE(cuTensorMapEncodeIm2col)
MAGVIT_NO_DEVICE(cuTensorMapEncodeTiled)
MAGVIT_NO_DEVICE(AnyOther)

// Functions that CUDA's runtime inside cuDNN asks for.
MAGVIT_STUB cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* status) {
  const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  *function = reinterpret_cast<void*>(AnyOther);
  if (is("cuDriverGetVersion")) *function = reinterpret_cast<void*>(cuDriverGetVersion);
  if (is("cuGetProcAddress")) *function = reinterpret_cast<void*>(cuGetProcAddress_v2);
  if (status != nullptr) *status = 0;
  return kSuccess;
}
