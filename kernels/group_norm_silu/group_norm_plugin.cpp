// GroupNorm as a TensorRT layer: shapes, types and formats around LaunchGroupNorm.
#include "group_norm_silu/group_norm_plugin.h"

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "group_norm_silu/group_norm_cuda.h"
#include "plugins/fields.h"
#include "plugins/logging.h"
#include "plugins/tensor_description.h"

namespace magvit {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr const char* kNumGroups = "num_groups";
constexpr const char* kEpsilon = "epsilon";
constexpr int32_t kDefaultGroups = 32;
constexpr float kDefaultEpsilon = 1e-6f;

const char* Name(magvit_activation activation) {
  return activation == MAGVIT_SILU ? "GroupNormSiLU" : "GroupNorm";
}

std::string Describe(int32_t num_groups, float epsilon) {
  char text[64];
  std::snprintf(text, sizeof(text), "num_groups=%d,epsilon=%.9g", num_groups, epsilon);
  return text;
}

// A dynamic dimension is -1 until its value is known.
bool Agree(int64_t a, int64_t b) { return a == -1 || b == -1 || a == b; }

}  // namespace

GroupNormPlugin::GroupNormPlugin(magvit_activation activation, int32_t num_groups, float epsilon)
    : PluginBase(Name(activation), Describe(num_groups, epsilon)),
      activation_(activation),
      num_groups_(num_groups),
      epsilon_(epsilon),
      field_array_{PluginField(kNumGroups, &num_groups_, PluginFieldType::kINT32, 1),
                   PluginField(kEpsilon, &epsilon_, PluginFieldType::kFLOAT32, 1)},
      fields_{2, field_array_} {}

GroupNormPlugin::GroupNormPlugin(const GroupNormPlugin& other)
    : GroupNormPlugin(other.activation_, other.num_groups_, other.epsilon_) {
  has_affine_ = other.has_affine_;
}

int32_t GroupNormPlugin::Refuse(const std::string& why) const {
  LogError("magvit: " + std::string(getPluginName()) + ": " + why);
  return 1;
}

int32_t GroupNormPlugin::CheckInputCount(int32_t input_count) const {
  if (input_count == 1 || input_count == 3) return 0;
  return Refuse("takes x, or x, weight and bias; found " + std::to_string(input_count) + " inputs");
}

int32_t GroupNormPlugin::CheckChannels(int64_t channels) const {
  if (channels == -1 || channels % num_groups_ == 0) return 0;
  return Refuse(std::to_string(channels) + " channels can't be divided into " +
                std::to_string(num_groups_) + " groups");
}

int32_t GroupNormPlugin::CheckAffine(const Dims& x, const Dims& affine) const {
  const bool per_channel = affine.nbDims == 1 && Agree(affine.d[0], x.d[1]);
  const bool per_sample =
      affine.nbDims == 2 && Agree(affine.d[0], x.d[0]) && Agree(affine.d[1], x.d[1]);
  if (per_channel || per_sample) return 0;
  return Refuse("weight and bias must be [C] or [N, C] of x");
}

int32_t GroupNormPlugin::getNbOutputs() const noexcept { return 1; }

int32_t GroupNormPlugin::getOutputDataTypes(DataType* outputs, int32_t, const DataType* inputs,
                                            int32_t input_count) const noexcept {
  if (CheckInputCount(input_count) != 0) return 1;
  if (inputs[0] != DataType::kFLOAT && inputs[0] != DataType::kHALF) {
    return Refuse("takes fp32 or fp16");
  }
  for (int32_t i = 1; i < input_count; ++i) {
    if (inputs[i] != DataType::kFLOAT) return Refuse("takes weight and bias in fp32");
  }
  outputs[0] = inputs[0];
  return 0;
}

int32_t GroupNormPlugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count,
                                         const DimsExprs*, int32_t, DimsExprs* outputs, int32_t,
                                         nvinfer1::IExprBuilder&) noexcept {
  if (CheckInputCount(input_count) != 0) return 1;
  const DimsExprs& x = inputs[0];
  if (x.nbDims < kMinRank || x.nbDims > kMaxRank) {
    return Refuse("takes x of rank 3 to 5, found " + std::to_string(x.nbDims));
  }
  if (x.d[1]->isConstant() && CheckChannels(x.d[1]->getConstantValue()) != 0) return 1;
  for (int32_t i = 1; i < input_count; ++i) {
    if (inputs[i].nbDims != 1 && inputs[i].nbDims != 2) {
      return Refuse("takes weight and bias of rank 1 or 2, found " +
                    std::to_string(inputs[i].nbDims));
    }
  }
  outputs[0] = x;
  return 0;
}

bool GroupNormPlugin::supportsFormatCombination(int32_t position,
                                                const DynamicPluginTensorDesc* tensors,
                                                int32_t input_count,
                                                int32_t output_count) noexcept {
  if (output_count != 1 || (input_count != 1 && input_count != 3)) return false;
  const PluginTensorDesc& x = tensors[0].desc;
  const PluginTensorDesc& tensor = tensors[position].desc;
  if (position == 0) return IsFeatureMap(x);
  if (position < input_count) return IsLinear(tensor, DataType::kFLOAT);
  return tensor.type == x.type && tensor.format == x.format;
}

int32_t GroupNormPlugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                         const DynamicPluginTensorDesc*, int32_t) noexcept {
  const Dims& x = inputs[0].desc.dims;
  if (CheckInputCount(input_count) != 0 || CheckChannels(x.d[1]) != 0) return 1;
  for (int32_t i = 1; i < input_count; ++i) {
    if (CheckAffine(x, inputs[i].desc.dims) != 0) return 1;
  }
  return 0;
}

size_t GroupNormPlugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t,
                                         const DynamicPluginTensorDesc*, int32_t) const noexcept {
  return GroupNormWorkspaceBytes(ShapeOf(inputs[0].max, inputs[0].desc.format), num_groups_);
}

int32_t GroupNormPlugin::onShapeChange(const PluginTensorDesc* inputs, int32_t input_count,
                                       const PluginTensorDesc*, int32_t) noexcept {
  const Dims& x = inputs[0].dims;
  if (CheckInputCount(input_count) != 0 || CheckChannels(x.d[1]) != 0) return 1;
  for (int32_t i = 1; i < input_count; ++i) {
    if (CheckAffine(x, inputs[i].dims) != 0) return 1;
  }
  if (input_count == 3 && inputs[1].dims.nbDims != inputs[2].dims.nbDims) {
    return Refuse("weight and bias must have the same shape");
  }
  has_affine_ = input_count == 3;
  return 0;
}

int32_t GroupNormPlugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc*,
                                 const void* const* inputs, void* const* outputs, void* workspace,
                                 cudaStream_t stream) noexcept {
  const PluginTensorDesc& x = input_descs[0];
  magvit_group_norm_options options = {};
  options.num_groups = num_groups_;
  options.epsilon = epsilon_;
  options.activation = activation_;
  if (has_affine_) {
    options.weight = static_cast<const float*>(inputs[1]);
    options.bias = static_cast<const float*>(inputs[2]);
    options.affine_per_sample = input_descs[1].dims.nbDims == 2 ? 1 : 0;
  }
  const cudaError_t error = LaunchGroupNorm(inputs[0], DtypeOf(x.type), ShapeOf(x.dims, x.format),
                                            options, outputs[0], workspace, stream);
  return error == cudaSuccess ? 0 : Refuse(cudaGetErrorString(error));
}

const PluginFieldCollection* GroupNormPlugin::getFieldsToSerialize() noexcept { return &fields_; }

Creator GroupNormCreator(magvit_activation activation) {
  return Creator(Name(activation),
                 {PluginField(kNumGroups, nullptr, PluginFieldType::kINT32, 1),
                  PluginField(kEpsilon, nullptr, PluginFieldType::kFLOAT32, 1)},
                 [activation](const PluginFieldCollection& fields) {
                   const int32_t num_groups = ReadInt32(fields, kNumGroups, kDefaultGroups);
                   const float epsilon = ReadFloat32(fields, kEpsilon, kDefaultEpsilon);
                   if (num_groups < 1) {
                     throw std::invalid_argument("num_groups must be positive, found " +
                                                 std::to_string(num_groups));
                   }
                   if (!std::isfinite(epsilon) || epsilon < 0.0f) {
                     throw std::invalid_argument("epsilon must be finite and not negative, found " +
                                                 std::to_string(epsilon));
                   }
                   return std::make_unique<GroupNormPlugin>(activation, num_groups, epsilon);
                 });
}

}  // namespace magvit
