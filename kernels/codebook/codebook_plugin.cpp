// The codebook search as a TensorRT layer: shapes, types and formats around LaunchCodebookArgmax.
#include "codebook/codebook_plugin.h"

#include <memory>
#include <string>

#include "codebook/codebook_cuda.h"
#include "plugins/logging.h"
#include "plugins/tensor_description.h"

namespace magvit {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginTensorDesc;

constexpr const char* kName = "CodebookArgmax";
constexpr int32_t kInputs = 2, kOutputs = 2;

int32_t Refuse(const std::string& why) {
  LogError("magvit: CodebookArgmax: " + why);
  return 1;
}

// A dynamic dimension is -1 until its value is known.
int32_t CheckChannels(int64_t latents, int64_t codebook) {
  if (latents == -1 || codebook == -1 || latents == codebook) return 0;
  return Refuse("takes a codebook with as many columns as the latents have channels, found " +
                std::to_string(codebook) + " and " + std::to_string(latents));
}

int32_t CheckCounts(int32_t input_count, int32_t output_count) {
  if (input_count == kInputs && output_count == kOutputs) return 0;
  return Refuse("takes two inputs and gives two outputs, found " + std::to_string(input_count) +
                " and " + std::to_string(output_count));
}

}  // namespace

CodebookPlugin::CodebookPlugin() : PluginBase(kName, ""), fields_{0, nullptr} {}

int32_t CodebookPlugin::getNbOutputs() const noexcept { return kOutputs; }

int32_t CodebookPlugin::getOutputDataTypes(DataType* outputs, int32_t output_count,
                                           const DataType* inputs,
                                           int32_t input_count) const noexcept {
  if (CheckCounts(input_count, output_count) != 0) return 1;
  if (inputs[0] != DataType::kFLOAT && inputs[0] != DataType::kHALF) {
    return Refuse("takes fp32 or fp16 latents");
  }
  if (inputs[1] != DataType::kFLOAT) return Refuse("takes an fp32 codebook");
  outputs[0] = DataType::kINT32;
  outputs[1] = DataType::kFLOAT;
  return 0;
}

int32_t CodebookPlugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count,
                                        const DimsExprs*, int32_t, DimsExprs* outputs,
                                        int32_t output_count, nvinfer1::IExprBuilder&) noexcept {
  if (CheckCounts(input_count, output_count) != 0) return 1;
  const DimsExprs& latents = inputs[0];
  if (latents.nbDims < kMinRank || latents.nbDims > kMaxRank) {
    return Refuse("takes latents of rank 3 to 5, found " + std::to_string(latents.nbDims));
  }
  if (inputs[1].nbDims != 2) {
    return Refuse("takes a codebook of rank 2, found " + std::to_string(inputs[1].nbDims));
  }
  const nvinfer1::IDimensionExpr& channels = *latents.d[1];
  const nvinfer1::IDimensionExpr& columns = *inputs[1].d[1];
  if (channels.isConstant() && columns.isConstant() &&
      CheckChannels(channels.getConstantValue(), columns.getConstantValue()) != 0) {
    return 1;
  }
  DimsExprs& ids = outputs[0];
  ids.nbDims = latents.nbDims - 1;
  ids.d[0] = latents.d[0];
  for (int32_t i = 2; i < latents.nbDims; ++i) ids.d[i - 1] = latents.d[i];
  outputs[1] = ids;
  return 0;
}

bool CodebookPlugin::supportsFormatCombination(int32_t position,
                                               const DynamicPluginTensorDesc* tensors,
                                               int32_t input_count, int32_t output_count) noexcept {
  if (input_count != kInputs || output_count != kOutputs) return false;
  const PluginTensorDesc& tensor = tensors[position].desc;
  if (position == 0) return IsFeatureMap(tensor);
  return IsLinear(tensor, position == 2 ? DataType::kINT32 : DataType::kFLOAT);
}

int32_t CodebookPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t,
                                        const DynamicPluginTensorDesc*, int32_t) noexcept {
  return CheckChannels(inputs[0].desc.dims.d[1], inputs[1].desc.dims.d[1]);
}

size_t CodebookPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t,
                                        const DynamicPluginTensorDesc*, int32_t) const noexcept {
  return CodebookWorkspaceBytes(ShapeOf(inputs[0].max, inputs[0].desc.format));
}

int32_t CodebookPlugin::onShapeChange(const PluginTensorDesc* inputs, int32_t,
                                      const PluginTensorDesc*, int32_t) noexcept {
  return CheckChannels(inputs[0].dims.d[1], inputs[1].dims.d[1]);
}

int32_t CodebookPlugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc*,
                                const void* const* inputs, void* const* outputs, void* workspace,
                                cudaStream_t stream) noexcept {
  const PluginTensorDesc& latents = input_descs[0];
  const cudaError_t error = LaunchCodebookArgmax(
      inputs[0], DtypeOf(latents.type), ShapeOf(latents.dims, latents.format),
      static_cast<const float*>(inputs[1]), input_descs[1].dims.d[0],
      static_cast<int32_t*>(outputs[0]), static_cast<float*>(outputs[1]), workspace, stream);
  return error == cudaSuccess ? 0 : Refuse(cudaGetErrorString(error));
}

const PluginFieldCollection* CodebookPlugin::getFieldsToSerialize() noexcept { return &fields_; }

Creator CodebookCreator() {
  return Creator(kName, {},
                 [](const PluginFieldCollection&) { return std::make_unique<CodebookPlugin>(); });
}

}  // namespace magvit
