// Keeps the finder of TensorRT's logger. It is the only state that the plugin interface asks a
// library to keep.
#include "plugins/logging.h"

#include <NvInferRuntime.h>

#include <atomic>
#include <cstdio>

#include "magvit/operators.h"

namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

// TensorRT calls this when it loads the library.
extern "C" MAGVIT_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  logger_finder = finder;
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
