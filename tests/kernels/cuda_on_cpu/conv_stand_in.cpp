// magvit_cuda_conv on the CPU, in plain loops: its kernel is made of instructions of one GPU, which
// the others' way to run on a CPU doesn't have. The checks on its arguments are the kernel's own.
#include <cstdint>
#include <vector>

#include "cuda_on_cpu.h"
#include "group_norm_silu/options.h"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"
#include "tensor_core_conv/tiles.h"

namespace {

using magvit::Half;

constexpr int kWindow = magvit::kWindow;

// The sums of one position's output channels.
void Multiply(const magvit_cuda_map& input, const float* weight, int64_t kernel_frames,
              int64_t clip, int64_t frame, int64_t row, int64_t column, std::vector<float>& sums) {
  const int64_t channels = input.channels;
  const auto* values = static_cast<const Half*>(input.data);
  std::vector<float> read(channels);
  for (int64_t tap = 0; tap < kernel_frames * kWindow * kWindow; ++tap) {
    const int64_t t = frame + tap / (kWindow * kWindow) - (kernel_frames - 1);
    const int64_t y = row + tap / kWindow % kWindow - kWindow / 2;
    const int64_t x = column + tap % kWindow - kWindow / 2;
    if (t < 0 || y < 0 || y >= input.sizes[1] || x < 0 || x >= input.sizes[2]) continue;
    const int64_t position =
        ((clip * input.sizes[0] + t) * input.sizes[1] + y) * input.sizes[2] + x;
    for (int64_t i = 0; i < channels; ++i)
      read[i] = magvit::ToFloat(values[position * channels + i]);
    for (size_t out = 0; out < sums.size(); ++out) {
      const float* of_tap =
          weight + (static_cast<int64_t>(out) * kernel_frames * kWindow * kWindow + tap) * channels;
      float sum = 0.0f;
      for (int64_t i = 0; i < channels; ++i) sum += read[i] * of_tap[i];
      sums[out] += sum;
    }
  }
}

}  // namespace

int32_t magvit_cuda_conv_fits(magvit_cuda_map input, magvit_cuda_map output,
                              int64_t kernel_frames) {
  return magvit::FitsTiles(input, output, kernel_frames) ? 1 : 0;
}

int32_t magvit_cuda_conv(magvit_cuda_map input, const void* weight, int64_t kernel_frames,
                         magvit_cuda_addends addends, magvit_cuda_map output,
                         const magvit_group_norm_options* options, void* workspace, void* stream) {
  if (weight == nullptr || !magvit::FitsTiles(input, output, kernel_frames)) {
    return cudaErrorInvalidValue;
  }
  if (output.data == input.data || !magvit::IsAligned(weight, 32) ||
      !magvit::IsAligned(addends.residual, 32)) {
    return cudaErrorInvalidValue;
  }
  if (options != nullptr &&
      (workspace == nullptr ||
       magvit::CheckGroupNorm(output.dtype, magvit::AsShape(output), *options) != MAGVIT_OK ||
       !magvit::FitsGroups(output, options->num_groups))) {
    return cudaErrorInvalidValue;
  }
  std::vector<float> weights(output.channels * kernel_frames * kWindow * kWindow * input.channels);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = magvit::ToFloat(static_cast<const Half*>(weight)[i]);
  }
  const auto* residual = static_cast<const Half*>(addends.residual);
  auto* target = static_cast<Half*>(output.data);
  const int64_t* sizes = output.sizes;
  for (int64_t place = 0; place < output.batch * magvit::Positions(output); ++place) {
    std::vector<float> sums(output.channels);
    const int64_t row = place / sizes[2], frame = row / sizes[1];
    Multiply(input, weights.data(), kernel_frames, frame / sizes[0], frame % sizes[0],
             row % sizes[1], place % sizes[2], sums);
    for (int64_t channel = 0; channel < output.channels; ++channel) {
      const int64_t index = place * output.channels + channel;
      float sum = sums[channel];
      if (addends.bias != nullptr) sum += addends.bias[channel];
      if (residual != nullptr) sum += magvit::ToFloat(residual[index]);
      target[index] = magvit::FromFloat<Half>(sum);
    }
  }
  if (options == nullptr) return cudaSuccess;
  std::vector<uint32_t> arrivals(output.batch);
  return magvit_cuda_statistics(output, {}, output, options, workspace, arrivals.data(), stream);
}
