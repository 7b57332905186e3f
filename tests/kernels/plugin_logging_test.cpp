// Where the plugins' errors go: to the logger of a TensorRT of the version that they were compiled
// for, and to the standard error under any other, whose logger has another layout.
#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "check.h"
#include "tensorrt_stand_in.h"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

namespace {

using namespace nvinfer1;

// Makes a plugin complain, and returns what it then wrote to the standard error.
std::string Complain() {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::tmpfile(), std::fclose);
  std::fflush(stderr);
  const int terminal = dup(STDERR_FILENO);
  dup2(fileno(file.get()), STDERR_FILENO);

  int32_t count = 0;
  auto* creator = static_cast<IPluginCreatorV3One*>(getCreators(count)[0]);
  const int32_t value = 1;
  const PluginField field("misspelt", &value, PluginFieldType::kINT32, 1);
  const PluginFieldCollection fields = {1, &field};
  CHECK(creator->createPlugin("layer", &fields, TensorRTPhase::kBUILD) == nullptr);

  std::fflush(stderr);
  dup2(terminal, STDERR_FILENO);
  close(terminal);
  std::rewind(file.get());
  char text[1024] = {};
  return std::string(text, std::fread(text, 1, sizeof(text), file.get()));
}

bool IsComplaint(const std::string& text) {
  return text.find("misspelt is not known") != std::string::npos;
}

void TestStandIn(const char* path, int major) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr);
  if (library == nullptr) return;
  using Getter = TensorRTStandIn* (*)();
  TensorRTStandIn& host = *reinterpret_cast<Getter>(dlsym(library, "GetTensorRTStandIn"))();
  setLoggerFinder(static_cast<ILoggerFinder*>(host.finder));
  const std::string printed = Complain();
  if (major == NV_TENSORRT_MAJOR) {
    CHECK(IsComplaint(host.last));
    CHECK(printed.empty());
  } else {
    CHECK(IsComplaint(printed));
    CHECK(host.last.empty());
  }
  CHECK(host.wrong_calls == 0);
}

// A finder of the program's own, which tells no version, has a logger that nobody may call.
class UnknownFinder final : public ILoggerFinder {
 public:
  ILogger* findLogger() override {
    ++calls;
    return nullptr;
  }
  int calls = 0;
};

}  // namespace

int main() {
  CHECK(IsComplaint(Complain()));  // before any TensorRT has loaded the library
  TestStandIn(STAND_IN_10, 10);
  TestStandIn(STAND_IN_11, 11);
  UnknownFinder unknown;
  setLoggerFinder(&unknown);
  CHECK(IsComplaint(Complain()));
  CHECK(unknown.calls == 0);
  setLoggerFinder(nullptr);
  CHECK(IsComplaint(Complain()));
  return Verdict();
}
