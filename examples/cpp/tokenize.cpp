// Tokenizes raw clips on a GPU with an engine of `magvit build`, in plain TensorRT C++:
//
//   tokenize ENGINE.plan CLIPS.raw IDS.raw
//
// CLIPS.raw holds uint8 [N, frames, height, width, 3], or [N, height, width, 3] for images, of the
// size that the engine is best at. IDS.raw becomes int32 [N, ...], one id for each token. Exit code
// 0: done; 1: failed, with a sentence on the standard error; 2: wrong arguments.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void Require(bool condition, const std::string& otherwise) {
  if (!condition) throw std::runtime_error(otherwise);
}

void Require(cudaError_t status, const std::string& step) {
  Require(status == cudaSuccess, step + " failed. CUDA says: " + cudaGetErrorString(status) + ".");
}

class Logger final : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", message);
  }
};

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, DeviceFree>;

DeviceMemory Allocate(int64_t bytes) {
  void* memory = nullptr;
  Require(cudaMalloc(&memory, bytes), "Allocating " + std::to_string(bytes) + " bytes");
  return DeviceMemory(memory);
}

std::vector<char> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Require(file.good(), path + " can't be read.");
  return {std::istreambuf_iterator<char>(file), {}};
}

// Elements of one clip, or of what it becomes: all dimensions but the first, which is the batch.
int64_t ItemSize(const nvinfer1::Dims& dims) {
  int64_t size = 1;
  for (int32_t i = 1; i < dims.nbDims; ++i) size *= dims.d[i];
  return size;
}

std::vector<int32_t> Tokenize(const std::string& plan_path, const std::string& clips_path) {
  // First of all, because createInferRuntime doesn't return null where there is no GPU.
  int gpus = 0;
  Require(cudaGetDeviceCount(&gpus), "Looking for an NVIDIA GPU and its driver");
  // TensorRT 11 changed the layout of ILogger, and would call ours wrongly.
  Require(getInferLibVersion() / 10000 == NV_TENSORRT_MAJOR,
          "The TensorRT library is of another major version than this program's headers.");

  Logger logger;
  const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
  Require(runtime != nullptr, "TensorRT doesn't start.");
  // Opening the library by dlopen would not register the plugins.
  Require(runtime->getPluginRegistry().loadLibrary(MAGVIT_PLUGINS) != nullptr,
          "The plugins can't be loaded from " MAGVIT_PLUGINS ".");
  const std::vector<char> plan = ReadFile(plan_path);
  const std::unique_ptr<nvinfer1::ICudaEngine> engine(
      runtime->deserializeCudaEngine(plan.data(), plan.size()));
  Require(engine != nullptr, plan_path +
                                 " is no engine for this GPU and this TensorRT; the .json "
                                 "beside it says what it was built for.");
  // A thread needs a context and a stream of its own. All threads can share the engine.
  const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
  Require(context != nullptr, "There isn't enough GPU memory to run the engine.");

  using Selector = nvinfer1::OptProfileSelector;
  nvinfer1::Dims shape = engine->getProfileShape("frames", 0, Selector::kOPT);
  const int64_t largest = engine->getProfileShape("frames", 0, Selector::kMAX).d[0];
  const std::vector<char> clips = ReadFile(clips_path);
  const int64_t clip_bytes = ItemSize(shape);
  const int64_t count = clips.size() / clip_bytes;
  Require(count > 0 && clips.size() % clip_bytes == 0,
          clips_path + " doesn't hold whole clips of " + std::to_string(clip_bytes) + " bytes.");

  // Memory for the largest batch; no element of an input or an output has more than 4 bytes.
  shape.d[0] = largest;
  Require(context->setInputShape("frames", shape), "The engine refuses its own largest batch.");
  std::map<std::string, DeviceMemory> memory;
  for (int32_t i = 0; i < engine->getNbIOTensors(); ++i) {
    const char* name = engine->getIOTensorName(i);
    memory[name] = Allocate(4 * largest * ItemSize(context->getTensorShape(name)));
    Require(context->setTensorAddress(name, memory[name].get()), "TensorRT refuses an address.");
  }
  Require(memory.count("ids") == 1, plan_path + " is no tokenizer: it has no output \"ids\".");

  cudaStream_t stream = nullptr;
  Require(cudaStreamCreate(&stream), "Creating a stream");
  const int64_t clip_ids = ItemSize(context->getTensorShape("ids"));
  std::vector<int32_t> ids(count * clip_ids);
  for (int64_t first = 0; first < count; first += largest) {
    const int64_t batch = shape.d[0] = std::min(largest, count - first);
    Require(context->setInputShape("frames", shape),
            "The engine takes no batch of " + std::to_string(batch) + ".");
    Require(cudaMemcpyAsync(memory["frames"].get(), &clips[first * clip_bytes], batch * clip_bytes,
                            cudaMemcpyHostToDevice, stream),
            "Copying clips to the GPU");
    Require(context->enqueueV3(stream), "TensorRT can't run the engine.");
    Require(cudaMemcpyAsync(&ids[first * clip_ids], memory["ids"].get(),
                            batch * clip_ids * sizeof(int32_t), cudaMemcpyDeviceToHost, stream),
            "Copying ids from the GPU");
  }
  Require(cudaStreamSynchronize(stream), "Running the engine");
  cudaStreamDestroy(stream);
  return ids;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "Usage: tokenize ENGINE.plan CLIPS.raw IDS.raw\n");
    return 2;
  }
  const std::vector<int32_t> ids = Tokenize(argv[1], argv[2]);
  std::ofstream file(argv[3], std::ios::binary);
  file.write(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t));
  file.close();
  Require(file.good(), std::string(argv[3]) + " can't be written.");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
