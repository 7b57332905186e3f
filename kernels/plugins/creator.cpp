// Makes plugins from fields: at build time from an ONNX node's, at run time from an engine's.
#include "plugins/creator.h"

#include <exception>
#include <string>
#include <utility>

#include "plugins/fields.h"
#include "plugins/logging.h"
#include "plugins/plugin_base.h"

namespace magvit {

Creator::Creator(const char* name, std::vector<nvinfer1::PluginField> fields, Factory factory)
    : name_(name), fields_(std::move(fields)), factory_(std::move(factory)) {
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

nvinfer1::IPluginV3* Creator::createPlugin(const char* layer_name,
                                           const nvinfer1::PluginFieldCollection* fields,
                                           nvinfer1::TensorRTPhase) noexcept {
  const nvinfer1::PluginFieldCollection none = {0, nullptr};
  try {
    CheckNames(fields != nullptr ? *fields : none, collection_);
    return factory_(fields != nullptr ? *fields : none).release();
  } catch (const std::exception& error) {
    LogError(std::string("magvit: ") + name_ + " (layer " +
             (layer_name != nullptr ? layer_name : "") + "): " + error.what());
    return nullptr;
  }
}

const nvinfer1::PluginFieldCollection* Creator::getFieldNames() noexcept { return &collection_; }
const char* Creator::getPluginName() const noexcept { return name_; }
const char* Creator::getPluginVersion() const noexcept { return kPluginVersion; }
const char* Creator::getPluginNamespace() const noexcept { return kPluginNamespace; }

}  // namespace magvit
