// Checks the CUDA kernels against the CPU operators on the GPU of this machine, on fresh random
// inputs of the real sizes, and measures their bandwidth against a device-to-device copy of the
// same run.
//
//   cmake -B build && cmake --build build --target gpu_check && build/kernels/gpu_check
//
// Prints a line of JSON about the GPU, then one per case as soon as it is known. Exit code 0: all
// checks passed, or there is no GPU and nothing was run; 1: a check failed; 2: CUDA failed.
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "codebook/codebook_cuda.h"
#include "group_norm_silu/group_norm_cuda.h"
#include "lfq/lfq_cuda.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/shape.h"

namespace {

using magvit::Half;

constexpr int kRepeats = 30;
constexpr int64_t kVectorChannels = 8;

// fp16 results may differ by a rounding of the last bit; fp32 ones by the GPU's faster exponential.
constexpr float kHalfTolerance = 1e-3f;
constexpr float kFloatTolerance = 5e-6f;

// Of a codebook: its rows, and how far sums of 256 products in another order are apart. Rows whose
// scores are nearer may change places.
constexpr int64_t kRows = 16384;
constexpr float kMarginTolerance = 1e-3f;

// The error of a NaN or an infinity, which JSON can't write.
constexpr double kNotFinite = 1e30;

void Require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("{\"passed\": false, \"error\": \"%s: %s\"}\n", what, cudaGetErrorString(error));
  std::exit(2);
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes) {
    Require(cudaMalloc(&data_, std::max<size_t>(bytes, 16)), "allocate device memory");
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

template <typename T>
void Upload(const std::vector<T>& host, const DeviceBuffer& device) {
  Require(cudaMemcpy(device.get(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
          "copy to the device");
}

template <typename T>
std::vector<T> Download(const DeviceBuffer& device, size_t size) {
  std::vector<T> host(size);
  Require(cudaMemcpy(host.data(), device.get(), size * sizeof(T), cudaMemcpyDeviceToHost),
          "copy from the device");
  return host;
}

// Captures what `launch` enqueues in a CUDA graph, which refuses allocations and synchronisation,
// and returns the median time of one replay in microseconds.
double MedianMicroseconds(const std::function<cudaError_t(cudaStream_t)>& launch) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cudaEvent_t start, stop;
  Require(cudaStreamCreate(&stream), "create a stream");
  // A kernel's first launch asks the driver for its occupancy, and loads its code.
  Require(launch(stream), "launch");
  Require(cudaStreamSynchronize(stream), "run the kernels");
  Require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin the capture");
  Require(launch(stream), "launch");
  Require(cudaStreamEndCapture(stream, &graph), "end the capture");
  Require(cudaGraphInstantiate(&replay, graph, 0), "instantiate the graph");
  Require(cudaEventCreate(&start), "create an event");
  Require(cudaEventCreate(&stop), "create an event");

  std::vector<float> milliseconds(kRepeats);
  Require(cudaGraphLaunch(replay, stream), "warm up");
  for (float& time : milliseconds) {
    Require(cudaEventRecord(start, stream), "record an event");
    Require(cudaGraphLaunch(replay, stream), "replay the graph");
    Require(cudaEventRecord(stop, stream), "record an event");
    Require(cudaEventSynchronize(stop), "run the kernels");
    Require(cudaEventElapsedTime(&time, start, stop), "read the time");
  }

  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  std::nth_element(milliseconds.begin(), milliseconds.begin() + kRepeats / 2, milliseconds.end());
  return 1e3 * milliseconds[kRepeats / 2];
}

// Bytes per second of a device-to-device copy, reads and writes counted.
double CopyBandwidth() {
  constexpr size_t kBytes = size_t{256} << 20;
  const DeviceBuffer source(kBytes), target(kBytes);
  const double time = MedianMicroseconds([&](cudaStream_t stream) {
    return cudaMemcpyAsync(target.get(), source.get(), kBytes, cudaMemcpyDeviceToDevice, stream);
  });
  return 2 * kBytes / time * 1e6;
}

// Feature maps of the video encoder at 17x128x128.
struct Size {
  int64_t channels, frames, height, width;
};

struct Case {
  std::string operation;
  Size size;
  magvit_dtype dtype;
  magvit_shape shape;

  int64_t Elements() const {
    const int64_t row =
        shape.layout == MAGVIT_CHANNELS_LAST ? magvit::ChannelPitch(shape) : shape.channels;
    return shape.batch * shape.positions * row;
  }
};

struct Outcome {
  double max_error = 0.0;
  double tolerance = 0.0;
  bool repeats = true;  // a second run gave the same bits
  double microseconds = 0.0;
  double bytes = 0.0;

  bool Passed() const { return max_error <= tolerance && repeats; }
};

// Calls `work(begin, end)` for parts of 0..size on all of the CPU's threads: the largest maps have
// 285 million elements, which one thread takes seconds to fill or to compare.
void InParallel(int64_t size, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t threads = std::max(1u, std::thread::hardware_concurrency());
  const int64_t part = magvit::DivideUp(size, threads);
  std::vector<std::thread> running;
  for (int64_t begin = 0; begin < size; begin += part) {
    running.emplace_back(work, begin, std::min(begin + part, size));
  }
  for (std::thread& thread : running) thread.join();
}

// Numbers from -1 to 2. Each is a function of the seed, the array and its place in the array, so
// threads share no state.
class RandomInputs {
 public:
  explicit RandomInputs(unsigned seed) : seed_(seed) {}

  template <typename T>
  std::vector<T> Next(size_t size) {
    const uint64_t start = (uint64_t{seed_} << 32 | array_++) * kGolden;
    std::vector<T> values(size);
    InParallel(static_cast<int64_t>(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const uint64_t bits = Mix(start + static_cast<uint64_t>(i) * kGolden) >> 40;
        values[i] = magvit::FromFloat<T>(static_cast<float>(bits) * (3.0f / (1 << 24)) - 1.0f);
      }
    });
    return values;
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

  // Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014
  // (SplitMix64).
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
  }

  unsigned seed_;
  unsigned array_ = 0;
};

// The largest error, relative above 1.
template <typename T>
double MaxError(const std::vector<T>& found, const std::vector<T>& expected) {
  std::atomic<double> largest{0.0};
  InParallel(static_cast<int64_t>(found.size()), [&](int64_t begin, int64_t end) {
    double here = 0.0;
    for (int64_t i = begin; i < end; ++i) {
      const double wanted = magvit::ToFloat(expected[i]);
      const double error = std::fabs(magvit::ToFloat(found[i]) - wanted) / (1 + std::fabs(wanted));
      here = std::max(here, std::isfinite(error) ? error : kNotFinite);
    }
    double seen = largest.load();
    while (here > seen && !largest.compare_exchange_weak(seen, here)) {
    }
  });
  return largest.load();
}

Outcome CheckLfq(const Case& test, const DeviceBuffer& latents, const void* host_latents) {
  const size_t count = test.shape.batch * test.shape.positions;
  const DeviceBuffer ids(count * sizeof(int32_t));
  const auto launch = [&](cudaStream_t stream) {
    return magvit::LaunchLfq(latents.get(), test.dtype, test.shape,
                             static_cast<int32_t*>(ids.get()), nullptr, stream);
  };

  Outcome outcome;
  outcome.microseconds = MedianMicroseconds(launch);
  const std::vector<int32_t> found = Download<int32_t>(ids, count);
  std::vector<int32_t> expected(count);
  magvit_lfq(host_latents, test.dtype, test.shape, expected.data(), nullptr, 0);
  for (size_t i = 0; i < count; ++i) outcome.max_error += found[i] != expected[i] ? 1.0 : 0.0;
  const size_t element = test.dtype == MAGVIT_FLOAT16 ? sizeof(Half) : sizeof(float);
  outcome.bytes = static_cast<double>(test.Elements() * element + count * sizeof(int32_t));
  return outcome;
}

Outcome CheckCodebook(const Case& test, const DeviceBuffer& latents, const void* host_latents,
                      RandomInputs& inputs) {
  const std::vector<float> codebook = inputs.Next<float>(kRows * test.shape.channels);
  const DeviceBuffer device_codebook(codebook.size() * sizeof(float));
  Upload(codebook, device_codebook);
  const size_t count = test.shape.batch * test.shape.positions;
  const DeviceBuffer ids(count * sizeof(int32_t)), margins(count * sizeof(float));
  const DeviceBuffer workspace(magvit::CodebookWorkspaceBytes(test.shape));
  const auto launch = [&](cudaStream_t stream) {
    return magvit::LaunchCodebookArgmax(
        latents.get(), test.dtype, test.shape, static_cast<const float*>(device_codebook.get()),
        kRows, static_cast<int32_t*>(ids.get()), static_cast<float*>(margins.get()),
        workspace.get(), stream);
  };

  Outcome outcome;
  outcome.tolerance = kMarginTolerance;
  outcome.microseconds = MedianMicroseconds(launch);
  const std::vector<int32_t> found = Download<int32_t>(ids, count);
  const std::vector<float> found_margins = Download<float>(margins, count);
  std::vector<int32_t> expected(count);
  std::vector<float> expected_margins(count);
  magvit_codebook_argmax(host_latents, test.dtype, test.shape, codebook.data(), kRows,
                         expected.data(), expected_margins.data(), 0);
  outcome.max_error = MaxError(found_margins, expected_margins);
  for (size_t i = 0; i < count; ++i) {
    const bool is_clear = expected_margins[i] > kMarginTolerance;
    if (is_clear && found[i] != expected[i]) outcome.max_error = kNotFinite;
  }
  // Its time goes by products, not by bytes: these are read at least.
  outcome.bytes = static_cast<double>(codebook.size() * sizeof(float));
  return outcome;
}

template <typename T>
Outcome CheckGroupNorm(const Case& test, const DeviceBuffer& input,
                       const std::vector<T>& host_input, RandomInputs& inputs) {
  const std::vector<float> weight = inputs.Next<float>(test.shape.channels);
  const std::vector<float> bias = inputs.Next<float>(test.shape.channels);
  const DeviceBuffer device_weight(weight.size() * sizeof(float));
  const DeviceBuffer device_bias(bias.size() * sizeof(float));
  Upload(weight, device_weight);
  Upload(bias, device_bias);
  const magvit_group_norm_options options = {32, 1e-6f, weight.data(), bias.data(), 0, MAGVIT_SILU};
  magvit_group_norm_options device_options = options;
  device_options.weight = static_cast<const float*>(device_weight.get());
  device_options.bias = static_cast<const float*>(device_bias.get());

  const DeviceBuffer output(host_input.size() * sizeof(T));
  const DeviceBuffer workspace(magvit::GroupNormWorkspaceBytes(test.shape, options.num_groups));
  const auto launch = [&](cudaStream_t stream) {
    return magvit::LaunchGroupNorm(input.get(), test.dtype, test.shape, device_options,
                                   output.get(), workspace.get(), stream);
  };

  Outcome outcome;
  outcome.tolerance = test.dtype == MAGVIT_FLOAT16 ? kHalfTolerance : kFloatTolerance;
  Require(launch(nullptr), "launch");
  const std::vector<T> first = Download<T>(output, host_input.size());
  outcome.microseconds = MedianMicroseconds(launch);
  const std::vector<T> found = Download<T>(output, host_input.size());
  outcome.repeats = std::memcmp(first.data(), found.data(), found.size() * sizeof(T)) == 0;

  std::vector<T> expected(host_input.size());
  magvit_group_norm(host_input.data(), test.dtype, test.shape, &options, expected.data(), 0);
  outcome.max_error = MaxError(found, expected);
  outcome.bytes = 3.0 * static_cast<double>(found.size() * sizeof(T));
  return outcome;
}

template <typename T>
Outcome Check(const Case& test, RandomInputs& inputs) {
  const std::vector<T> host_input = inputs.Next<T>(test.Elements());
  const DeviceBuffer input(host_input.size() * sizeof(T));
  Upload(host_input, input);
  if (test.operation == "LFQ") return CheckLfq(test, input, host_input.data());
  if (test.operation == "CodebookArgmax") {
    return CheckCodebook(test, input, host_input.data(), inputs);
  }
  return CheckGroupNorm(test, input, host_input, inputs);
}

std::vector<Case> AllCases() {
  const Size features[] = {{128, 17, 128, 128}, {256, 17, 64, 64}, {512, 5, 16, 16}};
  const Size latents = {18, 5, 16, 16}, image_latents = {256, 1, 16, 16};
  std::vector<Case> cases;
  const auto add = [&](const char* operation, const Size& size) {
    for (int64_t batch : {1, 8}) {
      for (magvit_dtype dtype : {MAGVIT_FLOAT16, MAGVIT_FLOAT32}) {
        // TensorRT pads fp16 channels-last only: DHWC8 against DHWC.
        const int64_t vector = dtype == MAGVIT_FLOAT16 ? kVectorChannels : 1;
        const int64_t pitch = magvit::DivideUp(size.channels, vector) * vector;
        const int64_t positions = size.frames * size.height * size.width;
        for (magvit_layout layout : {MAGVIT_CHANNELS_FIRST, MAGVIT_CHANNELS_LAST}) {
          cases.push_back(
              {operation, size, dtype, {batch, size.channels, positions, layout, pitch}});
        }
      }
    }
  };
  for (const Size& size : features) add("GroupNormSiLU", size);
  add("LFQ", latents);
  add("CodebookArgmax", image_latents);
  return cases;
}

void PrintCase(const Case& test, const Outcome& outcome, double copy_bandwidth) {
  const double bandwidth = outcome.bytes / outcome.microseconds * 1e6;
  std::printf(
      "{\"operator\": \"%s\", \"shape\": [%lld, %lld, %lld, %lld, %lld], \"dtype\": \"%s\", "
      "\"layout\": \"%s\", \"passed\": %s, \"max_error\": %.3g, \"tolerance\": %.3g, "
      "\"repeats\": %s, \"microseconds\": %.2f, \"gigabytes_per_second\": %.1f, "
      "\"of_copy\": %.3f}\n",
      test.operation.c_str(), static_cast<long long>(test.shape.batch),
      static_cast<long long>(test.size.channels), static_cast<long long>(test.size.frames),
      static_cast<long long>(test.size.height), static_cast<long long>(test.size.width),
      test.dtype == MAGVIT_FLOAT16 ? "float16" : "float32",
      test.shape.layout == MAGVIT_CHANNELS_FIRST ? "channels_first" : "channels_last",
      outcome.Passed() ? "true" : "false", outcome.max_error, outcome.tolerance,
      outcome.repeats ? "true" : "false", outcome.microseconds, bandwidth / 1e9,
      bandwidth / copy_bandwidth);
  std::fflush(stdout);
}

}  // namespace

int main() {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    std::printf("{\"not_run\": \"no GPU: %s\"}\n",
                found != cudaSuccess ? cudaGetErrorString(found) : "none is visible");
    return 0;
  }

  cudaDeviceProp properties;
  int driver = 0;
  Require(cudaGetDeviceProperties(&properties, 0), "read the device's properties");
  Require(cudaDriverGetVersion(&driver), "read the driver's version");
  const unsigned seed = std::random_device{}();
  RandomInputs inputs(seed);
  const double copy_bandwidth = CopyBandwidth();
  std::printf(
      "{\"gpu\": \"%s\", \"sm\": \"%d.%d\", \"cuda_driver\": %d, \"cuda_compiler\": %d, "
      "\"seed\": %u, \"copy_gigabytes_per_second\": %.1f}\n",
      properties.name, properties.major, properties.minor, driver, CUDART_VERSION, seed,
      copy_bandwidth / 1e9);

  bool passed = true;
  for (const Case& test : AllCases()) {
    const Outcome outcome =
        test.dtype == MAGVIT_FLOAT16 ? Check<Half>(test, inputs) : Check<float>(test, inputs);
    PrintCase(test, outcome, copy_bandwidth);
    passed = passed && outcome.Passed();
  }
  return passed ? 0 : 1;
}
