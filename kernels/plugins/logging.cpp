// Keeps the finder of TensorRT's logger. It is the only state that the plugin interface asks a
// library to keep.
#include "plugins/logging.h"

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdio>

#include "magvit/operators.h"

namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

// The major version of the TensorRT that a finder belongs to; 0 where nothing says it. Nothing of
// the finder is called: its table of functions lies in TensorRT's library, which knows its version.
int32_t MajorVersion(const nvinfer1::ILoggerFinder* finder) {
  const void* table = *reinterpret_cast<const void* const*>(finder);
  Dl_info place = {};
  if (dladdr(table, &place) == 0) return 0;
  void* library = dlopen(place.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return 0;
  using Version = int32_t (*)();
  const auto version = reinterpret_cast<Version>(dlsym(library, "getInferLibVersion"));
  const int32_t major = version == nullptr ? 0 : version() / 10000;
  dlclose(library);
  return major;
}

}  // namespace

// TensorRT calls this when it loads the library. Majors differ in the layout of ILogger: in 11,
// `log` is not where 10 has it. A finder of another major is therefore not kept.
extern "C" MAGVIT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  const bool ours = finder != nullptr && MajorVersion(finder) == NV_TENSORRT_MAJOR;
  logger_finder = ours ? finder : nullptr;
}

namespace magvit {

void LogError(const std::string& message) noexcept {
  nvinfer1::ILoggerFinder* finder = logger_finder;
  nvinfer1::ILogger* logger = finder != nullptr ? finder->findLogger() : nullptr;
  if (logger != nullptr) {
    logger->log(nvinfer1::ILogger::Severity::kERROR, message.c_str());
  } else {
    std::fprintf(stderr, "%s\n", message.c_str());
  }
}

}  // namespace magvit
