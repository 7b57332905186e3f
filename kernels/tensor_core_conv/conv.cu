// The conv on tensor cores as a call.
#include <cudaTypedefs.h>

#include <algorithm>
#include <cstdint>

#include "cuda_operators/map_checks.h"
#include "group_norm_silu/options.h"
#include "group_norm_silu/pass_plans.cuh"
#include "magvit/cuda_operators.h"
#include "tensor/launch.cuh"
#include "tensor_core_conv/kernel.cuh"
#include "tensor_core_conv/tiles.h"

namespace magvit {
namespace {

using Encoder = PFN_cuTensorMapEncodeTiled_v12000;

// The driver's function that describes tensors to copies; there is none in drivers before CUDA 12.
cudaError_t FindEncoder(Encoder* encoder) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  *encoder = reinterpret_cast<Encoder>(function);
  return error == cudaSuccess && function == nullptr ? cudaErrorNotSupported : error;
}

// Whether the current GPU has the kernel's instructions, and its driver the function above.
bool CanRun() {
  Encoder encoder;
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0 && FindEncoder(&encoder) == cudaSuccess;
}

// A tensor of halves without gaps, innermost size first, and the boxes in which it is copied.
template <int kAxes>
cudaError_t Describe(Encoder encode, const void* data, const cuuint64_t (&sizes)[kAxes],
                     const cuuint32_t (&box)[kAxes], CUtensorMap* map) {
  cuuint64_t strides[kAxes - 1], bytes = sizeof(Half);
  for (int i = 0; i < kAxes - 1; ++i) strides[i] = bytes *= sizes[i];
  cuuint32_t steps[kAxes];
  std::fill_n(steps, kAxes, 1);
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, kAxes, const_cast<void*>(data), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t DescribeMap(Encoder encode, const magvit_cuda_map& map, const void* data, int columns,
                        int rows, CUtensorMap* described) {
  const auto size = [](int64_t value) { return static_cast<cuuint64_t>(value); };
  return Describe<5>(
      encode, data,
      {size(map.channels), size(map.sizes[2]), size(map.sizes[1]), size(map.sizes[0]),
       size(map.batch)},
      {kChunkChannels, static_cast<cuuint32_t>(columns), static_cast<cuuint32_t>(rows), 1, 1},
      described);
}

cudaError_t DescribeAll(const magvit_cuda_map& input, const void* weight, const void* residual,
                        const magvit_cuda_map& output, int64_t kernel_frames, ConvMaps* maps) {
  Encoder encode;
  cudaError_t error = FindEncoder(&encode);
  if (error != cudaSuccess) return error;
  error = DescribeMap(encode, input, input.data, kBoxColumns, kBoxRows, &maps->input);
  if (error != cudaSuccess) return error;
  error = Describe<3>(encode, weight,
                      {static_cast<cuuint64_t>(input.channels),
                       static_cast<cuuint64_t>(kernel_frames * kWindowTaps),
                       static_cast<cuuint64_t>(output.channels)},
                      {kChunkChannels, 1, kTileChannels}, &maps->weights);
  if (error != cudaSuccess) return error;
  error = DescribeMap(encode, output, output.data, kTileColumns, kTileRows, &maps->output);
  if (error != cudaSuccess || residual == nullptr) return error;
  return DescribeMap(encode, output, residual, kTileColumns, kTileRows, &maps->residual);
}

template <bool kHasResidual, bool kHasMoments>
cudaError_t LaunchConv(const ConvMaps& maps, const ConvTiles& tiles, const ConvEnd& end,
                       cudaStream_t stream) {
  const auto kernel = ConvOnTensorCores<kHasResidual, kHasMoments>;
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kConvSharedBytes);
  if (error != cudaSuccess) return error;
  int device = 0, multiprocessors = 0;
  error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  const auto blocks = static_cast<unsigned>(std::min(tiles.Total(), multiprocessors));
  return LaunchWithShared(kernel, dim3(blocks), kConvThreads, kConvSharedBytes, stream, maps, tiles,
                          end);
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_conv_fits(magvit_cuda_map input, magvit_cuda_map output,
                              int64_t kernel_frames) {
  return magvit::FitsTiles(input, output, kernel_frames) && magvit::CanRun() ? 1 : 0;
}

int32_t magvit_cuda_conv(magvit_cuda_map input, const void* weight, int64_t kernel_frames,
                         magvit_cuda_addends addends, magvit_cuda_map output,
                         const magvit_group_norm_options* options, void* workspace, void* stream) {
  using namespace magvit;
  if (weight == nullptr || !IsAligned(weight, 32) || !IsAligned(addends.residual, 32) ||
      !FitsTiles(input, output, kernel_frames) || output.data == input.data) {
    return cudaErrorInvalidValue;
  }
  if (!CanRun()) return cudaErrorNotSupported;
  const ConvTiles tiles = TilesOf(input, output, kernel_frames);
  ConvEnd end = {addends.bias, nullptr, 0, 0};
  const magvit_shape shape = AsShape(output);
  StatisticsTarget target = {};
  if (options != nullptr) {
    if (workspace == nullptr || CheckGroupNorm(output.dtype, shape, *options) != MAGVIT_OK ||
        !FitsGroups(output, options->num_groups)) {
      return cudaErrorInvalidValue;
    }
    target = TargetIn(workspace, nullptr, shape, *options);
    end.partials = target.partials;
    end.groups = static_cast<int>(options->num_groups);
    end.group_channels = static_cast<int>(output.channels / options->num_groups);
  }
  ConvMaps maps = {};
  const cudaError_t error =
      DescribeAll(input, weight, addends.residual, output, kernel_frames, &maps);
  if (error != cudaSuccess) return error;
  const auto queue = static_cast<cudaStream_t>(stream);
  const bool has_residual = addends.residual != nullptr;
  if (options == nullptr) {
    return has_residual ? LaunchConv<true, false>(maps, tiles, end, queue)
                        : LaunchConv<false, false>(maps, tiles, end, queue);
  }
  const cudaError_t launched = has_residual ? LaunchConv<true, true>(maps, tiles, end, queue)
                                            : LaunchConv<false, true>(maps, tiles, end, queue);
  if (launched != cudaSuccess) return launched;
  const auto finishers = static_cast<unsigned>(output.batch * options->num_groups);
  return Launch(FinishConvMoments, dim3(finishers), kFinishThreads, queue, target, tiles.OfClip());
}
