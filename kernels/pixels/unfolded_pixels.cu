// Pixels to the first conv's input, unfolded: each position of the conv's output holds the values
// of all taps of its window, so that the conv is a matrix product.
//
// A block makes a part of one output row. It normalises the rows of pixels that this part reads
// once, in shared memory, with zeros where they lie in the padding. Then one thread gathers a
// vector of channels: the taps of one row of the window lie there one after the other.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cuda_operators/map_checks.h"
#include "cuda_operators/map_views.h"
#include "magvit/cuda_operators.h"
#include "tensor/fast_divisor.h"
#include "tensor/half.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
// Bytes that a thread has on their way at once.
constexpr int kLoads = 4;
constexpr int kMostVectors = MAGVIT_MOST_UNFOLDED_CHANNELS / kMapVector;
// Values that a block holds: of the released encoders, the rows of 136 positions for clips and of
// 339 for images.
constexpr int kStagedValues = 4096;
constexpr int64_t kMostBlocks = 4096;  // of a clip
static_assert(MAGVIT_MOST_UNFOLDED_CHANNELS <= kThreads, "a thread each");

// Where the values come from. A part is what a block makes at a time.
struct Unfolding {
  int frames, height, row_bytes;  // of the pixels
  int stride[3], before[3];
  int pixel_channels;
  int window_rows;            // in all frames of the window; one more row is zero
  int window_row_channels;    // channels that come from one row
  int row_length;             // staged values of one row
  int channels;               // of the output, without padding
  int width;                  // of the output
  int part_width;             // positions
  int64_t positions;          // of an output clip
  uint32_t parts;             // of an output clip
  FastDivisor parts_of_row;   // output row
  FastDivisor rows;           // of an output frame
  FastDivisor window_height;  // rows in each frame of the window
  FastDivisor vectors;        // of one output position
};

// The pixels of the rows that a part reads, normalised by a warp for each row; the last one is
// zeros.
template <typename T>
__device__ __forceinline__ void StageRows(const uint8_t* clip, const Unfolding& from,
                                          int first_frame, int top, int left, float divisor,
                                          float offset, T* staged) {
  int row = static_cast<int>(threadIdx.x) / kWarp;
  for (; row <= from.window_rows; row += kThreads / kWarp) {
    const auto in_window = static_cast<int>(from.window_height.Quotient(row));
    const int t = first_frame + in_window;
    const int y = top + row - in_window * static_cast<int>(from.window_height.divisor());
    const bool is_inside =
        row < from.window_rows && t >= 0 && t < from.frames && y >= 0 && y < from.height;
    // No bytes of a row in the padding.
    const uint32_t row_bytes = is_inside ? from.row_bytes : 0;
    const uint8_t* pixels =
        clip + (is_inside ? (int64_t{t} * from.height + y) * from.row_bytes : 0);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) % kWarp; i < from.row_length; i += kLoads * kWarp) {
      int levels[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const auto byte = static_cast<uint32_t>(left + i + j * kWarp);
        levels[j] = byte < row_bytes ? pixels[byte] : -1;
      }
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        if (i + j * kWarp >= from.row_length) break;
        const float value = levels[j] / divisor + offset;
        staged[row * from.row_length + i + j * kWarp] = FromFloat<T>(levels[j] < 0 ? 0.0f : value);
      }
    }
  }
}

// Grid: (clips, blocks of parts).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    UnfoldPixels(const uint8_t* frames, Unfolding from, float divisor, float offset, T* output) {
  __shared__ T staged[kStagedValues];
  // Where a channel's values begin among the staged ones.
  __shared__ Vector<uint16_t, kMapVector> starts[kMostVectors];
  const auto vectors = static_cast<int>(from.vectors.divisor());
  const auto channel = static_cast<int>(threadIdx.x);
  if (channel < vectors * kMapVector) {
    const int row = channel < from.channels ? channel / from.window_row_channels : from.window_rows;
    const int in_row = channel < from.channels ? channel - row * from.window_row_channels : 0;
    const int start = row * from.row_length + in_row;
    starts[channel / kMapVector].values[channel % kMapVector] = static_cast<uint16_t>(start);
  }
  WaitForPredecessor();
  const uint8_t* clip = frames + int64_t{blockIdx.x} * from.frames * from.height * from.row_bytes;
  for (uint32_t part = blockIdx.y; part < from.parts; part += gridDim.y) {
    const uint32_t row = from.parts_of_row.Quotient(part);
    const uint32_t frame = from.rows.Quotient(row);
    const int first = static_cast<int>(part - row * from.parts_of_row.divisor()) * from.part_width;
    const auto in_frame = static_cast<int>(row - frame * from.rows.divisor());
    StageRows(clip, from, static_cast<int>(frame) * from.stride[0] - from.before[0],
              in_frame * from.stride[1] - from.before[1],
              (first * from.stride[2] - from.before[2]) * from.pixel_channels, divisor, offset,
              staged);
    __syncthreads();
    const int64_t position =
        int64_t{blockIdx.x} * from.positions + int64_t{row} * from.width + first;
    T* target = output + position * vectors * kMapVector;
    const int count = min(from.part_width, from.width - first) * vectors;
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
      const auto column = static_cast<int>(from.vectors.Quotient(i));
      const Vector<uint16_t, kMapVector> of_channels = starts[i - column * vectors];
      const T* window = staged + column * from.stride[2] * from.pixel_channels;
      Vector<T, kMapVector> values;
#pragma unroll
      for (int j = 0; j < kMapVector; ++j) values.values[j] = window[of_channels.values[j]];
      StoreVector(values, target + int64_t{i} * kMapVector);
    }
    __syncthreads();
  }
}

// Whether a conv of this window over the frames writes the output's positions, all counted in 32
// bits.
bool Fits(const magvit_cuda_window& window, const magvit_cuda_map& output) {
  constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMostChannels = MAGVIT_MOST_UNFOLDED_CHANNELS;
  if (window.pixel_channels < 1 || window.pixel_channels > kMostChannels) return false;
  int64_t channels = window.pixel_channels, positions = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t size = window.frame_sizes[axis], kernel = window.kernel[axis];
    const int64_t before = window.pads_before[axis], after = window.pads_after[axis];
    const int64_t stride = window.stride[axis];
    if (size < 1 || kernel < 1 || kernel > kMostChannels || stride < 1 || before < 0 || after < 0) {
      return false;
    }
    if (size > kLimit || stride > kLimit || before > kLimit || after > kLimit) return false;
    const int64_t padded = before + size + after;
    if (padded < kernel || (padded - kernel) / stride + 1 != output.sizes[axis]) return false;
    // A row's bytes, too.
    if (padded > kLimit / kMostChannels || positions > kLimit / size) return false;
    positions *= size;
    channels *= kernel;
  }
  return output.channels == channels && output.pitch <= kMostChannels;
}

Unfolding UnfoldingOf(const magvit_cuda_window& window, const magvit_cuda_map& output) {
  const int64_t channels = window.pixel_channels;
  const int64_t window_rows = window.kernel[0] * window.kernel[1];
  // The widest part whose pixels fit; at least one position's do. Then parts of equal width.
  const int64_t most_pixels = kStagedValues / (window_rows + 1) / channels;
  const int64_t widest = (most_pixels - window.kernel[2]) / window.stride[2] + 1;
  const int64_t parts = DivideUp(output.sizes[2], widest);
  const int64_t part_width = DivideUp(output.sizes[2], parts);
  const int64_t row_length = ((part_width - 1) * window.stride[2] + window.kernel[2]) * channels;
  const int64_t rows = output.sizes[0] * output.sizes[1];
  const auto whole = [](int64_t value) { return static_cast<int>(value); };
  const auto divisor = [](int64_t value) { return FastDivisor(static_cast<uint32_t>(value)); };
  Unfolding from = {whole(window.frame_sizes[0]),
                    whole(window.frame_sizes[1]),
                    whole(window.frame_sizes[2] * channels),
                    {},
                    {},
                    whole(channels),
                    whole(window_rows),
                    whole(window.kernel[2] * channels),
                    whole(row_length),
                    whole(output.channels),
                    whole(output.sizes[2]),
                    whole(part_width),
                    Positions(output),
                    static_cast<uint32_t>(rows * parts),
                    divisor(parts),
                    divisor(output.sizes[1]),
                    divisor(window.kernel[1]),
                    divisor(output.pitch / kMapVector)};
  for (int axis = 0; axis < 3; ++axis) {
    from.stride[axis] = whole(window.stride[axis]);
    from.before[axis] = whole(window.pads_before[axis]);
  }
  return from;
}

}  // namespace
}  // namespace magvit

int32_t magvit_cuda_unfolded_pixels(const uint8_t* frames, float divisor, float offset,
                                    magvit_cuda_window window, magvit_cuda_map output,
                                    void* stream) {
  using namespace magvit;
  if (frames == nullptr || !IsValid(output) || HasBorder(output) || !Fits(window, output)) {
    return cudaErrorInvalidValue;
  }
  const Unfolding from = UnfoldingOf(window, output);
  return WithType(output.dtype, [&](auto* element) -> cudaError_t {
    using T = std::remove_pointer_t<decltype(element)>;
    const int64_t blocks = std::min<int64_t>(from.parts, kMostBlocks);
    const dim3 grid(static_cast<unsigned>(output.batch), static_cast<unsigned>(blocks));
    return Launch(UnfoldPixels<T>, grid, kThreads, static_cast<cudaStream_t>(stream), frames, from,
                  divisor, offset, static_cast<T*>(output.data));
  });
}
