// LFQ as a TensorRT layer: shapes, types and formats around LaunchLfq.
#include "lfq/lfq_plugin.h"

#include <memory>
#include <stdexcept>
#include <string>

#include "lfq/lfq.h"
#include "lfq/lfq_cuda.h"
#include "plugins/fields.h"
#include "plugins/logging.h"
#include "plugins/tensor_description.h"

namespace magvit {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr const char* kName = "LFQ";
constexpr const char* kPackedBits = "packed_bits";

int32_t Refuse(const std::string& why) {
  LogError("magvit: LFQ: " + why);
  return 1;
}

// A dynamic dimension is -1 until its value is known.
int32_t CheckChannels(int64_t channels) {
  if (channels == -1 || (channels >= 1 && channels <= kMaxLfqChannels)) return 0;
  return Refuse("takes 1 to 31 channels, found " + std::to_string(channels));
}

}  // namespace

LfqPlugin::LfqPlugin(bool packed_bits)
    : PluginBase(kName, "packed_bits=" + std::to_string(packed_bits)),
      packed_bits_(packed_bits ? 1 : 0),
      field_(kPackedBits, &packed_bits_, PluginFieldType::kINT32, 1),
      fields_{1, &field_} {}

LfqPlugin::LfqPlugin(const LfqPlugin& other) : LfqPlugin(other.packed_bits_ != 0) {}

int32_t LfqPlugin::getNbOutputs() const noexcept { return 1 + packed_bits_; }

int32_t LfqPlugin::getOutputDataTypes(DataType* outputs, int32_t output_count,
                                      const DataType* inputs, int32_t input_count) const noexcept {
  if (input_count != 1 || output_count != getNbOutputs()) {
    return Refuse("takes one input, found " + std::to_string(input_count));
  }
  if (inputs[0] != DataType::kFLOAT && inputs[0] != DataType::kHALF) {
    return Refuse("takes fp32 or fp16 latents");
  }
  outputs[0] = DataType::kINT32;
  if (packed_bits_ != 0) outputs[1] = DataType::kINT8;
  return 0;
}

int32_t LfqPlugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs*,
                                   int32_t, DimsExprs* outputs, int32_t output_count,
                                   nvinfer1::IExprBuilder& builder) noexcept {
  if (input_count != 1 || output_count != getNbOutputs()) {
    return Refuse("takes one input, found " + std::to_string(input_count));
  }
  const DimsExprs& latents = inputs[0];
  if (latents.nbDims < kMinRank || latents.nbDims > kMaxRank) {
    return Refuse("takes latents of rank 3 to 5, found " + std::to_string(latents.nbDims));
  }
  const nvinfer1::IDimensionExpr& channels = *latents.d[1];
  if (channels.isConstant() && CheckChannels(channels.getConstantValue()) != 0) return 1;

  DimsExprs& ids = outputs[0];
  ids.nbDims = latents.nbDims - 1;
  ids.d[0] = latents.d[0];
  for (int32_t i = 2; i < latents.nbDims; ++i) ids.d[i - 1] = latents.d[i];
  if (packed_bits_ != 0) {
    outputs[1] = ids;
    outputs[1].nbDims = ids.nbDims + 1;
    outputs[1].d[ids.nbDims] =
        builder.operation(nvinfer1::DimensionOperation::kCEIL_DIV, channels, *builder.constant(8));
  }
  return 0;
}

bool LfqPlugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                          int32_t input_count, int32_t output_count) noexcept {
  if (input_count != 1 || output_count != getNbOutputs()) return false;
  const PluginTensorDesc& tensor = tensors[position].desc;
  if (position == 0) return IsFeatureMap(tensor);
  return IsLinear(tensor, position == 1 ? DataType::kINT32 : DataType::kINT8);
}

int32_t LfqPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t,
                                   const DynamicPluginTensorDesc*, int32_t) noexcept {
  return CheckChannels(inputs[0].desc.dims.d[1]);
}

int32_t LfqPlugin::onShapeChange(const PluginTensorDesc* inputs, int32_t, const PluginTensorDesc*,
                                 int32_t) noexcept {
  return CheckChannels(inputs[0].dims.d[1]);
}

int32_t LfqPlugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc*,
                           const void* const* inputs, void* const* outputs, void*,
                           cudaStream_t stream) noexcept {
  const PluginTensorDesc& latents = input_descs[0];
  const cudaError_t error =
      LaunchLfq(inputs[0], DtypeOf(latents.type), ShapeOf(latents.dims, latents.format),
                static_cast<int32_t*>(outputs[0]),
                packed_bits_ != 0 ? static_cast<uint8_t*>(outputs[1]) : nullptr, stream);
  return error == cudaSuccess ? 0 : Refuse(cudaGetErrorString(error));
}

const PluginFieldCollection* LfqPlugin::getFieldsToSerialize() noexcept { return &fields_; }

Creator LfqCreator() {
  return Creator(kName, {PluginField(kPackedBits, nullptr, PluginFieldType::kINT32, 1)},
                 [](const PluginFieldCollection& fields) {
                   const int32_t packed_bits = ReadInt32(fields, kPackedBits, 0);
                   if (packed_bits != 0 && packed_bits != 1) {
                     throw std::invalid_argument("packed_bits must be 0 or 1, found " +
                                                 std::to_string(packed_bits));
                   }
                   return std::make_unique<LfqPlugin>(packed_bits == 1);
                 });
}

}  // namespace magvit
