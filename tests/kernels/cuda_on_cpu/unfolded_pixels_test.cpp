// Unfolded pixels, run on the CPU, against plain loops: clips and images, strides, rows of several
// parts, the number of channels, and what is refused.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "../check.h"
#include "cuda_on_cpu.h"
#include "magvit/cuda_operators.h"
#include "test_maps.h"

namespace {

using namespace test_maps;

// The sizes of a conv's output over the frames of a window.
magvit_cuda_map Unfolded(magvit_dtype dtype, int64_t batch, const magvit_cuda_window& window) {
  int64_t sizes[3], channels = window.pixel_channels;
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t padded =
        window.pads_before[axis] + window.frame_sizes[axis] + window.pads_after[axis];
    sizes[axis] = (padded - window.kernel[axis]) / window.stride[axis] + 1;
    channels *= window.kernel[axis];
  }
  return Packed(dtype, batch, sizes[0], sizes[1], sizes[2], channels);
}

void TestUnfoldedPixels(magvit_dtype dtype, const magvit_cuda_window& window) {
  constexpr int64_t kBatch = 2;
  const int64_t* sizes = window.frame_sizes;
  const int64_t* kernel = window.kernel;
  const int64_t colors = window.pixel_channels;
  Map output(Unfolded(dtype, kBatch, window));
  // What was there before must be gone, in padding channels too.
  for (int64_t i = 0; i < Elements(output.map); ++i) Write(dtype, output.map.data, i, 7.0f);
  std::vector<uint8_t> frames(kBatch * sizes[0] * sizes[1] * sizes[2] * colors);
  for (size_t i = 0; i < frames.size(); ++i) frames[i] = static_cast<uint8_t>(i * 37 + i / 256);
  CHECK(magvit_cuda_unfolded_pixels(frames.data(), 127.5f, -1.0f, window, output.map, nullptr) ==
        cudaSuccess);
  const int64_t pitch = output.map.pitch, *extent = output.map.sizes;
  std::vector<float> expected(Elements(output.map));
  for (int64_t place = 0; place < static_cast<int64_t>(expected.size()); ++place) {
    const int64_t position = place / pitch, channel = place % pitch;
    if (channel >= output.map.channels) continue;
    const int64_t tap = channel / colors, row = position / extent[2], frame = row / extent[1];
    const int64_t in_output[] = {frame % extent[0], row % extent[1], position % extent[2]};
    const int64_t in_window[] = {tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1],
                                 tap % kernel[2]};
    int64_t pixel = frame / extent[0];
    bool inside = true;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t at =
          in_output[axis] * window.stride[axis] + in_window[axis] - window.pads_before[axis];
      inside = inside && at >= 0 && at < sizes[axis];
      pixel = pixel * sizes[axis] + at;
    }
    if (!inside) continue;
    const auto level = static_cast<float>(frames[pixel * colors + channel % colors]);
    expected[place] = Rounded(dtype, level / 127.5f - 1.0f);
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
}

void TestUnfoldedPixels(magvit_dtype dtype) {
  // Sizes, colours, kernel, stride, padding before and after: the causal conv of clips, a conv of
  // images.
  const magvit_cuda_window clips = {{3, 5, 7}, 3, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, {0, 1, 1}};
  const magvit_cuda_window images = {{1, 5, 7}, 3, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}};
  TestUnfoldedPixels(dtype, clips);
  TestUnfoldedPixels(dtype, images);
  magvit_cuda_window strided = clips;
  std::fill_n(strided.stride, 3, 2);
  TestUnfoldedPixels(dtype, strided);
  strided.stride[0] = 5;
  TestUnfoldedPixels(dtype, strided);
  // Rows of several parts, the last of them narrower; parts of one position.
  magvit_cuda_window wide = clips;
  wide.frame_sizes[2] = 277;
  TestUnfoldedPixels(dtype, wide);
  wide.stride[2] = 100;
  TestUnfoldedPixels(dtype, wide);
  // As many channels as there may be, and few; a window that lies in the padding.
  TestUnfoldedPixels(dtype, {{9, 5, 4}, 4, {8, 2, 2}, {1, 1, 1}, {1, 2, 0}, {3, 0, 5}});
  TestUnfoldedPixels(dtype, {{1, 2, 2}, 1, {1, 1, 2}, {1, 1, 1}, {0, 0, 4}, {0, 0, 4}});
  // Fewer blocks than parts of a clip.
  if (dtype == MAGVIT_FLOAT16) {
    TestUnfoldedPixels(dtype, {{1, 4100, 1}, 1, {1, 2, 1}, {1, 1, 1}, {0, 1, 0}, {0, 0, 0}});
  }
}

void TestRefusals() {
  const magvit_cuda_window window = {{3, 5, 7}, 3, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, {0, 1, 1}};
  Map output(Unfolded(MAGVIT_FLOAT16, 1, window));
  const std::vector<uint8_t> frames(3 * 5 * 7 * 3);
  const auto unfold = [&](const magvit_cuda_window& from, const magvit_cuda_map& to) {
    return magvit_cuda_unfolded_pixels(frames.data(), 1.0f, 0.0f, from, to, nullptr);
  };
  CHECK(unfold(window, output.map) == cudaSuccess);
  CHECK(magvit_cuda_unfolded_pixels(nullptr, 1.0f, 0.0f, window, output.map, nullptr) ==
        cudaErrorInvalidValue);
  magvit_cuda_map other = output.map;
  other.before[2] = 1;
  CHECK(unfold(window, other) == cudaErrorInvalidValue);
  other = output.map;
  other.channels = 80;
  CHECK(unfold(window, other) == cudaErrorInvalidValue);
  other = output.map;
  other.pitch = 136;
  CHECK(unfold(window, other) == cudaErrorInvalidValue);
  // Of other sizes than the output, of no pixels, or without an end.
  for (const int64_t wrong : {int64_t{-1}, int64_t{0}, int64_t{4}, int64_t{1} << 40}) {
    for (int axis = 0; axis < 3; ++axis) {
      magvit_cuda_window crooked = window;
      crooked.kernel[axis] = wrong;
      CHECK(unfold(crooked, output.map) == cudaErrorInvalidValue);
      crooked = window;
      crooked.stride[axis] = wrong;
      CHECK(unfold(crooked, output.map) == cudaErrorInvalidValue);
      crooked = window;
      crooked.pads_before[axis] = wrong;
      CHECK(unfold(crooked, output.map) == cudaErrorInvalidValue);
      crooked = window;
      crooked.frame_sizes[axis] = wrong;
      CHECK(unfold(crooked, output.map) == cudaErrorInvalidValue);
    }
  }
  magvit_cuda_window crooked = window;
  crooked.pixel_channels = 0;
  CHECK(unfold(crooked, output.map) == cudaErrorInvalidValue);
}

}  // namespace

int main() {
  TestUnfoldedPixels(MAGVIT_FLOAT32);
  TestUnfoldedPixels(MAGVIT_FLOAT16);
  TestRefusals();
  return Verdict();
}
