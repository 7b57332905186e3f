// The common part of all plugins: one object for all three capabilities of IPluginV3, cloned by its
// copy constructor.
//
// Each execution context gets its own clone (attachToContext), so contexts share nothing and may
// run on different threads.
#ifndef MAGVIT_PLUGINS_PLUGIN_BASE_H_
#define MAGVIT_PLUGINS_PLUGIN_BASE_H_

#include <NvInferRuntime.h>

#include <new>
#include <string>
#include <utility>

namespace magvit {

constexpr const char* kPluginNamespace = "magvit";
constexpr const char* kPluginVersion = "1";

// Derived adds the operator: its outputs, formats, workspace and launch.
template <typename Derived>
class PluginBase : public nvinfer1::IPluginV3,
                   public nvinfer1::IPluginV3OneCore,
                   public nvinfer1::IPluginV3OneBuild,
                   public nvinfer1::IPluginV3OneRuntime {
 public:
  nvinfer1::IPluginCapability* getCapabilityInterface(
      nvinfer1::PluginCapabilityType type) noexcept final {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }

  nvinfer1::IPluginV3* clone() noexcept final {
    try {
      return new Derived(static_cast<const Derived&>(*this));
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept final {
    return clone();
  }

  const char* getPluginName() const noexcept final { return name_; }
  const char* getPluginVersion() const noexcept final { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept final { return kPluginNamespace; }

  // A kernel's speed depends only on these fields, shapes and formats.
  const char* getTimingCacheID() noexcept final { return description_.c_str(); }
  const char* getMetadataString() noexcept final { return description_.c_str(); }

 protected:
  // `description` holds the fields' values.
  PluginBase(const char* name, std::string description)
      : name_(name), description_(std::move(description)) {}

 private:
  const char* name_;  // of static storage
  std::string description_;
};

}  // namespace magvit

#endif  // MAGVIT_PLUGINS_PLUGIN_BASE_H_
