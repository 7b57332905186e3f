// Plugin fields: TensorRT passes an ONNX node's attributes in them and keeps them in an engine.
#ifndef MAGVIT_PLUGINS_FIELDS_H_
#define MAGVIT_PLUGINS_FIELDS_H_

#include <NvInferRuntime.h>

#include <cstdint>

namespace magvit {

// The scalar named `name`, or `absent` if there is no such field. Throws std::invalid_argument if
// the field has another type or length.
int32_t ReadInt32(const nvinfer1::PluginFieldCollection& fields, const char* name, int32_t absent);
float ReadFloat32(const nvinfer1::PluginFieldCollection& fields, const char* name, float absent);

// Throws std::invalid_argument on a field of `fields` whose name is not among `known`: a misspelt
// attribute would otherwise silently become a default.
void CheckNames(const nvinfer1::PluginFieldCollection& fields,
                const nvinfer1::PluginFieldCollection& known);

}  // namespace magvit

#endif  // MAGVIT_PLUGINS_FIELDS_H_
