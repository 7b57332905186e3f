// TensorRT plugin magvit::LFQ, version 1.
//
//   input   latents fp32 | fp16 [N, C, ...], rank 3 to 5, C from 1 to 31
//   output  ids int32 [N, ...], linear
//   field   packed_bits int32, 0 (default) or 1; with 1 there is a second output, int8
//           [N, ..., ceil(C / 8)]: the ids' low bytes, least significant first
#ifndef MAGVIT_LFQ_LFQ_PLUGIN_H_
#define MAGVIT_LFQ_LFQ_PLUGIN_H_

#include <NvInferRuntime.h>

#include <cstdint>

#include "plugins/creator.h"
#include "plugins/plugin_base.h"

namespace magvit {

class LfqPlugin final : public PluginBase<LfqPlugin> {
 public:
  explicit LfqPlugin(bool packed_bits);
  // A copy points at its own field, not at the original's.
  LfqPlugin(const LfqPlugin& other);

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
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc* outputs,
                        int32_t output_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs,
                  const nvinfer1::PluginTensorDesc* output_descs, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  int32_t packed_bits_;
  nvinfer1::PluginField field_;
  nvinfer1::PluginFieldCollection fields_;
};

Creator LfqCreator();

}  // namespace magvit

#endif  // MAGVIT_LFQ_LFQ_PLUGIN_H_
