// Marks arithmetic that the CPU operators and the CUDA kernels share.
#ifndef MAGVIT_TENSOR_HOST_DEVICE_H_
#define MAGVIT_TENSOR_HOST_DEVICE_H_

#ifdef __CUDACC__
#define MAGVIT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MAGVIT_HOST_DEVICE inline
#endif

#endif  // MAGVIT_TENSOR_HOST_DEVICE_H_
