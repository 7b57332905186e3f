// Loads the plugins into TensorRT when this library is opened, for programs that open plugin
// libraries and do no more, as Triton's TensorRT backend does
// (`--backend-config=tensorrt,plugins=…`). TensorRT must be in the process by then, so LD_PRELOAD
// is too early.
//
// The plugins are those of libmagvit_plugins.so in the same folder. What goes wrong is one line on
// standard error; TensorRT itself then refuses engines that need the plugins.
#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstring>
#include <string>

namespace {

// A TensorRT library of this process: libnvinfer.so.10 and its like, wherever it was opened.
// libnvinfer_plugin.so has no registry of its own.
int FindTensorRt(dl_phdr_info* info, size_t, void* found) {
  auto* library = static_cast<void**>(found);
  if (std::strstr(info->dlpi_name, "libnvinfer") == nullptr) return 0;
  void* handle = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return 0;
  if (dlsym(handle, "getPluginRegistry") == nullptr) {
    dlclose(handle);
    return 0;
  }
  *library = handle;
  return 1;
}

void Complain(const std::string& what) {
  std::fprintf(stderr, "libmagvit_plugins_autoload.so: %s\n", what.c_str());
}

__attribute__((constructor)) void LoadPlugins() {
  void* tensorrt = nullptr;
  dl_iterate_phdr(FindTensorRt, &tensorrt);
  if (tensorrt == nullptr) {
    Complain("TensorRT isn't in this process yet, so there is nothing to load the plugins into");
    return;
  }
  // The registry's table of functions has another order in each major.
  using Version = int32_t (*)();
  const auto version = reinterpret_cast<Version>(dlsym(tensorrt, "getInferLibVersion"));
  const int32_t major = version == nullptr ? 0 : version() / 10000;
  if (major != NV_TENSORRT_MAJOR) {
    Complain("found TensorRT " + std::to_string(major) + ", expected TensorRT " +
             std::to_string(NV_TENSORRT_MAJOR) + ", whose headers this library was built with");
    return;
  }
  Dl_info here = {};
  dladdr(reinterpret_cast<const void*>(&Complain), &here);
  std::string path = here.dli_fname;
  const size_t slash = path.rfind('/');
  path = (slash == std::string::npos ? "" : path.substr(0, slash + 1)) + "libmagvit_plugins.so";
  using Registry = nvinfer1::IPluginRegistry* (*)();
  const auto registry = reinterpret_cast<Registry>(dlsym(tensorrt, "getPluginRegistry"))();
  if (registry == nullptr || registry->loadLibrary(path.c_str()) == nullptr) {
    Complain("TensorRT can't load " + path);
  }
  dlclose(tensorrt);
}

}  // namespace
