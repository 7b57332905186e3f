// TensorRT plugin magvit::CodebookArgmax, version 1.
//
//   inputs   latents fp32 | fp16 [N, C, ...], rank 3 to 5; codebook fp32 [rows, C], linear
//   outputs  ids int32 and margins fp32, each [N, ...], linear
#ifndef MAGVIT_CODEBOOK_CODEBOOK_PLUGIN_H_
#define MAGVIT_CODEBOOK_CODEBOOK_PLUGIN_H_

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>

#include "plugins/creator.h"
#include "plugins/plugin_base.h"

namespace magvit {

class CodebookPlugin final : public PluginBase<CodebookPlugin> {
 public:
  CodebookPlugin();

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
  nvinfer1::PluginFieldCollection fields_;
};

Creator CodebookCreator();

}  // namespace magvit

#endif  // MAGVIT_CODEBOOK_CODEBOOK_PLUGIN_H_
