// TensorRT plugins magvit::GroupNorm and magvit::GroupNormSiLU, version 1: one class, with and
// without the SiLU after it.
//
//   inputs  x fp32 | fp16 [N, C, ...], rank 3 to 5; then none, or weight and bias, both fp32 and
//           both [C] or both [N, C]
//   output  type, shape and format of x
//   fields  num_groups int32 (default 32), epsilon float32 (default 1e-6)
#ifndef MAGVIT_GROUP_NORM_SILU_GROUP_NORM_PLUGIN_H_
#define MAGVIT_GROUP_NORM_SILU_GROUP_NORM_PLUGIN_H_

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "magvit/operators.h"
#include "plugins/creator.h"
#include "plugins/plugin_base.h"

namespace magvit {

class GroupNormPlugin final : public PluginBase<GroupNormPlugin> {
 public:
  GroupNormPlugin(magvit_activation activation, int32_t num_groups, float epsilon);
  // A copy points at its own fields, not at the original's.
  GroupNormPlugin(const GroupNormPlugin& other);

  int32_t getNbOutputs() const noexcept override;
  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count,
                             const nvinfer1::DataType* inputs,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count,
                          const nvinfer1::DimsExprs* shape_inputs, int32_t shape_input_count,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs,
                          int32_t output_count) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs,
                          int32_t output_count) const noexcept override;
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc* outputs,
                        int32_t output_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                  const nvinfer1::PluginTensorDesc* output_descs, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  int32_t Refuse(const std::string& why) const;
  int32_t CheckInputCount(int32_t input_count) const;
  int32_t CheckChannels(int64_t channels) const;
  int32_t CheckAffine(const nvinfer1::Dims& x, const nvinfer1::Dims& affine) const;

  magvit_activation activation_;
  int32_t num_groups_;
  float epsilon_;
  // Set by onShapeChange, since enqueue isn't told how many inputs there are.
  bool has_affine_ = false;
  nvinfer1::PluginField field_array_[2];
  nvinfer1::PluginFieldCollection fields_;
};

Creator GroupNormCreator(magvit_activation activation);

}  // namespace magvit

#endif  // MAGVIT_GROUP_NORM_SILU_GROUP_NORM_PLUGIN_H_
