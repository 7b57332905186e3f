// The codebook search on the GPU. A block takes 64 positions and a range of rows: it multiplies
// them, 64 rows at a time, and keeps the best two scores of each position in registers. A second
// kernel merges the ranges.
#include <algorithm>
#include <limits>

#include "codebook/codebook.h"
#include "codebook/codebook_cuda.h"
#include "tensor/half.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/waves.h"

namespace magvit {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 64;      // positions of a block, and rows of one step
constexpr int kDepth = 16;     // channels of one step
constexpr int kPositions = 8;  // of a thread
constexpr int kRows = 4;       // of a thread
constexpr int kRowThreads = kTile / kRows;
// From one channel to the next; more than a tile, so that threads that write one row's channels do
// so in different banks, and whole vectors, so that those that read a channel's rows read vectors.
constexpr int kPitch = kTile + 4;

// The merging kernel: positions of a block, and threads that share one.
constexpr int kMergedPositions = 32;
constexpr int kSharers = 8;

// Positions of all samples, one after the other.
template <typename T>
struct Latents {
  const T* values;
  int64_t positions, channels, pitch;
  bool is_channels_first;

  __device__ float At(int64_t position, int64_t channel) const {
    if (!is_channels_first) return ToFloat(values[position * pitch + channel]);
    const int64_t sample = position / positions;
    return ToFloat(values[(sample * channels + channel) * positions + position % positions]);
  }
};

// Grid: (tiles of positions, ranges of rows). `found` is [range][padded positions].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    SearchRanges(Latents<T> latents, int64_t total, const float* codebook, int64_t rows,
                 int64_t range_rows, BestTwo* found) {
  WaitForPredecessor();
  __shared__ float latent_tile[kDepth * kPitch];
  __shared__ float row_tile[kDepth * kPitch];
  __shared__ BestTwo best_of_threads[kTile * kRowThreads];
  const int thread = threadIdx.x;
  const int row_thread = thread % kRowThreads;
  const int position_thread = thread / kRowThreads;
  const int64_t first_position = blockIdx.x * int64_t{kTile};
  const int64_t first_row = blockIdx.y * range_rows;
  const int64_t last_row = min(rows, first_row + range_rows);
  const int64_t channels = latents.channels;

  BestTwo best[kPositions];
  for (int i = 0; i < kPositions; ++i) best[i] = NothingFound();
  for (int64_t row = first_row; row < last_row; row += kTile) {
    float scores[kPositions][kRows] = {};
    for (int64_t channel = 0; channel < channels; channel += kDepth) {
      for (int i = thread; i < kTile * kDepth; i += kThreads) {
        // Neighbouring threads read what lies side by side.
        const int p = latents.is_channels_first ? i % kTile : i / kDepth;
        const int c = latents.is_channels_first ? i / kTile : i % kDepth;
        const bool is_inside = first_position + p < total && channel + c < channels;
        latent_tile[c * kPitch + p] =
            is_inside ? latents.At(first_position + p, channel + c) : 0.0f;
      }
      for (int i = thread; i < kTile * kDepth; i += kThreads) {
        const int r = i / kDepth, c = i % kDepth;
        const bool is_inside = row + r < last_row && channel + c < channels;
        row_tile[c * kPitch + r] = is_inside ? codebook[(row + r) * channels + channel + c] : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kDepth; ++c) {
        float a[kPositions], b[kRows];
#pragma unroll
        for (int i = 0; i < kPositions; ++i) {
          a[i] = latent_tile[c * kPitch + position_thread * kPositions + i];
        }
#pragma unroll
        for (int j = 0; j < kRows; ++j) b[j] = row_tile[c * kPitch + row_thread * kRows + j];
#pragma unroll
        for (int i = 0; i < kPositions; ++i) {
#pragma unroll
          for (int j = 0; j < kRows; ++j) scores[i][j] += a[i] * b[j];
        }
      }
      __syncthreads();
    }
    for (int j = 0; j < kRows; ++j) {
      const int64_t of = row + row_thread * kRows + j;
      if (of >= last_row) break;
#pragma unroll
      for (int i = 0; i < kPositions; ++i) {
        Take(best[i], scores[i][j], static_cast<int32_t>(of));
      }
    }
  }

  for (int i = 0; i < kPositions; ++i) {
    best_of_threads[(position_thread * kPositions + i) * kRowThreads + row_thread] = best[i];
  }
  __syncthreads();
  if (thread >= kTile) return;
  BestTwo merged = NothingFound();
  for (int i = 0; i < kRowThreads; ++i) {
    merged = Merge(merged, best_of_threads[thread * kRowThreads + i]);
  }
  found[(blockIdx.y * int64_t{gridDim.x} + blockIdx.x) * kTile + thread] = merged;
}

// Grid: (blocks of positions).
__global__ void __launch_bounds__(kMergedPositions* kSharers)
    MergeRanges(const BestTwo* found, int64_t ranges, int64_t padded, int64_t total, int32_t* ids,
                float* margins) {
  WaitForPredecessor();
  __shared__ BestTwo shares[kMergedPositions * kSharers];
  const int place = threadIdx.x % kMergedPositions;
  const int share = threadIdx.x / kMergedPositions;
  const int64_t position = blockIdx.x * int64_t{kMergedPositions} + place;
  BestTwo best = NothingFound();
  for (int64_t range = share; range < ranges && position < total; range += kSharers) {
    best = Merge(best, found[range * padded + position]);
  }
  shares[threadIdx.x] = best;
  __syncthreads();
  if (share != 0 || position >= total) return;
  for (int i = 1; i < kSharers; ++i) best = Merge(best, shares[i * kMergedPositions + place]);
  ids[position] = IdOf(best);
  if (margins != nullptr) margins[position] = MarginOf(best);
}

int64_t Tiles(const magvit_shape& shape) { return DivideUp(shape.batch * shape.positions, kTile); }

template <typename T>
cudaError_t LaunchSearch(const void* latents, const magvit_shape& shape, const float* codebook,
                         int64_t rows, int64_t ranges, int64_t range_rows, BestTwo* found,
                         cudaStream_t stream) {
  const Latents<T> view = {static_cast<const T*>(latents), shape.positions, shape.channels,
                           ChannelPitch(shape), shape.layout == MAGVIT_CHANNELS_FIRST};
  const dim3 grid(static_cast<unsigned>(Tiles(shape)), static_cast<unsigned>(ranges));
  return Launch(SearchRanges<T>, grid, kThreads, stream, view, shape.batch * shape.positions,
                codebook, rows, range_rows, found);
}

}  // namespace

size_t CodebookWorkspaceBytes(const magvit_shape& shape) {
  return (kMostBlocks + Tiles(shape)) * kTile * sizeof(BestTwo);
}

cudaError_t LaunchCodebookArgmax(const void* latents, magvit_dtype dtype, const magvit_shape& shape,
                                 const float* codebook, int64_t rows, int32_t* ids, float* margins,
                                 void* workspace, cudaStream_t stream) {
  if (CheckTensor(dtype, shape) != MAGVIT_OK || rows < 1 || rows >= kNoRow) {
    return cudaErrorInvalidValue;
  }
  if (IsEmpty(shape)) return cudaSuccess;
  if (Tiles(shape) > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidValue;

  // Enough blocks for any GPU, none of less than one step.
  const int64_t wanted = std::min(DivideUp(kMostBlocks, Tiles(shape)), DivideUp(rows, kTile));
  const int64_t range_rows = DivideUp(DivideUp(rows, kTile), wanted) * kTile;
  const int64_t ranges = DivideUp(rows, range_rows);
  auto* found = static_cast<BestTwo*>(workspace);
  const auto launch = dtype == MAGVIT_FLOAT32 ? LaunchSearch<float> : LaunchSearch<Half>;
  const cudaError_t error =
      launch(latents, shape, codebook, rows, ranges, range_rows, found, stream);
  if (error != cudaSuccess) return error;

  const int64_t total = shape.batch * shape.positions;
  const auto blocks = static_cast<unsigned>(DivideUp(total, kMergedPositions));
  return Launch(MergeRanges, blocks, kMergedPositions * kSharers, stream,
                static_cast<const BestTwo*>(found), ranges, Tiles(shape) * kTile, total, ids,
                margins);
}

}  // namespace magvit
