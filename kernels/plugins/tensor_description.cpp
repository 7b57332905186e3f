// Maps TensorRT's types and formats to the operators' types and layouts.
#include "plugins/tensor_description.h"

#include "tensor/shape.h"

namespace magvit {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr int64_t kVectorChannels = 8;

TensorFormat ChannelsLastFormat(DataType type, int32_t rank) {
  if (type == DataType::kHALF) return rank == 5 ? TensorFormat::kDHWC8 : TensorFormat::kHWC8;
  return rank == 5 ? TensorFormat::kDHWC : TensorFormat::kHWC;
}

}  // namespace

bool IsFeatureMap(const PluginTensorDesc& tensor) {
  const int32_t rank = tensor.dims.nbDims;
  if (tensor.type != DataType::kFLOAT && tensor.type != DataType::kHALF) return false;
  if (rank < kMinRank || rank > kMaxRank) return false;
  if (tensor.format == TensorFormat::kLINEAR) return true;
  return rank >= 4 && tensor.format == ChannelsLastFormat(tensor.type, rank);
}

bool IsLinear(const PluginTensorDesc& tensor, DataType type) {
  return tensor.type == type && tensor.format == TensorFormat::kLINEAR;
}

magvit_dtype DtypeOf(DataType type) {
  return type == DataType::kHALF ? MAGVIT_FLOAT16 : MAGVIT_FLOAT32;
}

magvit_shape ShapeOf(const nvinfer1::Dims& dims, TensorFormat format) {
  magvit_shape shape = {dims.d[0], dims.d[1], 1, MAGVIT_CHANNELS_FIRST, 0};
  for (int32_t i = 2; i < dims.nbDims; ++i) shape.positions *= dims.d[i];
  if (format == TensorFormat::kLINEAR) return shape;

  shape.layout = MAGVIT_CHANNELS_LAST;
  if (format == TensorFormat::kHWC8 || format == TensorFormat::kDHWC8) {
    shape.channel_pitch = DivideUp(shape.channels, kVectorChannels) * kVectorChannels;
  }
  return shape;
}

}  // namespace magvit
