// The only kind of plugin creator: a name, its fields, and a function that makes the plugin.
#ifndef MAGVIT_PLUGINS_CREATOR_H_
#define MAGVIT_PLUGINS_CREATOR_H_

#include <NvInferRuntime.h>

#include <functional>
#include <memory>
#include <vector>

namespace magvit {

class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  // Throws std::invalid_argument on a bad field.
  using Factory =
      std::function<std::unique_ptr<nvinfer1::IPluginV3>(const nvinfer1::PluginFieldCollection&)>;

  // `name` and the fields' names are of static storage.
  Creator(const char* name, std::vector<nvinfer1::PluginField> fields, Factory factory);

  // Logs what is wrong with the fields and returns null.
  nvinfer1::IPluginV3* createPlugin(const char* layer_name,
                                    const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  const char* name_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
  Factory factory_;
};

}  // namespace magvit

#endif  // MAGVIT_PLUGINS_CREATOR_H_
