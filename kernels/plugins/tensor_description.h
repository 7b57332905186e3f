// TensorRT's description of a tensor [N, C, ...] in the operators' terms.
#ifndef MAGVIT_PLUGINS_TENSOR_DESCRIPTION_H_
#define MAGVIT_PLUGINS_TENSOR_DESCRIPTION_H_

#include <NvInferRuntime.h>

#include "magvit/operators.h"

namespace magvit {

constexpr int32_t kMinRank = 3;
constexpr int32_t kMaxRank = 5;

// Whether the kernels read and write this type, rank and format: fp32 and fp16 of rank 3 to 5,
// linear; and channels-last, which TensorRT knows as (D)HWC8 for fp16 and (D)HWC for fp32, at the
// rank (5 or 4) for which the format's channels are dimension 1.
bool IsFeatureMap(const nvinfer1::PluginTensorDesc& tensor);

bool IsLinear(const nvinfer1::PluginTensorDesc& tensor, nvinfer1::DataType type);

magvit_dtype DtypeOf(nvinfer1::DataType type);

// Uses `dims` instead of the description's own, whose dynamic dimensions may be -1.
magvit_shape ShapeOf(const nvinfer1::Dims& dims, nvinfer1::TensorFormat format);

}  // namespace magvit

#endif  // MAGVIT_PLUGINS_TENSOR_DESCRIPTION_H_
