// Compiled once for each major version, and without TensorRT's headers, which know one of them.
#include "tensorrt_stand_in.h"

#include <cstdint>

namespace {

TensorRTStandIn stand_in = {};

#if STAND_IN_MAJOR == 10
class Logger {
 public:
  virtual void log(int32_t, const char* message) noexcept { stand_in.last = message; }
  virtual ~Logger() { ++stand_in.wrong_calls; }
};
#else
// 11 put the functions of IVersionedInterface before it.
class Logger {
 public:
  virtual int32_t getAPILanguage() const noexcept { return ++stand_in.wrong_calls; }
  virtual const void* getInterfaceInfo() const noexcept { return &++stand_in.wrong_calls; }
  virtual ~Logger() { ++stand_in.wrong_calls; }
  virtual void log(int32_t, const char* message) noexcept { stand_in.last = message; }
};
#endif

class Finder {
 public:
  virtual Logger* findLogger() {
    static Logger* logger = new Logger;  // never destroyed, since that counts as a call
    return logger;
  }
};

Finder finder;

}  // namespace

extern "C" int32_t getInferLibVersion() noexcept { return STAND_IN_MAJOR * 10000 + 1401; }

extern "C" TensorRTStandIn* GetTensorRTStandIn() {
  stand_in.finder = &finder;
  return &stand_in;
}
