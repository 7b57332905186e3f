// A causal conv with windows of 3x3 positions as a product on tensor cores, for compute capability
// 9.0: output channels times positions.
//
// One block runs on each multiprocessor and takes tile after tile. One thread loads what the two
// groups of four warps multiply, half of a tile's channels each. A box of the input, with the
// positions around the tile, is loaded once for all nine taps of a frame: a tap is the same box,
// read from a few rows further on. So there is a fifth of the loads that a product of gathered
// inputs would take. What lies outside of the frame is loaded as zeros. Frames before the clip
// aren't multiplied at all.
//
// The result stays in registers until it is complete. Bias and residual are added there, the sum is
// rounded once, and its moments are taken for the next normalisation.
#ifndef MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_
#define MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_

#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "group_norm_silu/finish.cuh"
#include "group_norm_silu/statistics.h"
#include "tensor/launch.cuh"
#include "tensor_core_conv/hopper.cuh"
#include "tensor_core_conv/tiles.h"

namespace magvit {

constexpr int kConvGroups = kTileChannels / kProductRows;
constexpr int kConvThreads = (kConvGroups + 1) * kGroupThreads;  // the last group loads
constexpr int kBoxColumns = kTileColumns + kWindow - 1;
constexpr int kBoxRows = kTileRows + kWindow - 1;
constexpr int kBoxBytes = kBoxColumns * kBoxRows * kSwizzledRow;
constexpr int kBoxStride = (kBoxBytes + kSwizzleBytes - 1) / kSwizzleBytes * kSwizzleBytes;
constexpr int kWeightBytes = kTileChannels * kSwizzledRow;
constexpr int kHalfTileBytes = kTilePositions * kSwizzledRow;
// Loads are this many steps ahead at most.
constexpr int kBoxStages = 2;
constexpr int kWeightStages = 4;
// The next box is asked for after this many of a box's taps: the box before it is free by then.
constexpr int kTapOfNextBox = 5;
static_assert(kTilePositions == kProductColumns && kChunkChannels * 2 == kSwizzledRow,
              "a tile is one product");

// The shared memory of a block, from a multiple of kSwizzleBytes on.
struct ConvMemory {
  uint8_t boxes[kBoxStages][kBoxStride];
  uint8_t weights[kWeightStages][kWeightBytes];
  uint8_t results[kConvGroups][kHalfTileBytes];  // residuals before
  Moments moments[kConvGroups][kProductRows];    // of channels
  uint64_t box_full[kBoxStages], box_empty[kBoxStages];
  uint64_t weights_full[kWeightStages], weights_empty[kWeightStages];
  uint64_t residual_full[kConvGroups];
};

// What a conv reads and writes.
struct ConvMaps {
  CUtensorMap input;
  CUtensorMap weights;
  CUtensorMap residual;
  CUtensorMap output;
};

// What becomes of the result besides.
struct ConvEnd {
  const float* bias;  // [channels], or null
  Partial* partials;  // [clip, group, tile of the clip]
  int groups, group_channels;
};

// A place in a ring of stages, and the parity of the barrier's phase there.
template <int kStages>
struct Ring {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// The boxes that a block needs, one after the other.
struct BoxLoader {
  const ConvTiles& tiles;
  const CUtensorMap& input;
  ConvMemory& memory;
  Ring<kBoxStages> ring = {};
  int round = 0, tap = 0, chunk = 0;
  bool has_tile = false;
  ConvTile tile = {};

  __device__ __forceinline__ void TakeTile() {
    const int index = TileOfRound(round++, blockIdx.x, gridDim.x);
    has_tile = index < tiles.Total();
    if (!has_tile) return;
    tile = TileAt(tiles, index);
    tap = tile.first_tap;
  }

  // Starts to load the next box, if there is one.
  __device__ __forceinline__ void LoadNext() {
    if (!has_tile) return;
    const uint32_t full = SharedAddress(&memory.box_full[ring.stage]);
    WaitFor(SharedAddress(&memory.box_empty[ring.stage]), ring.parity ^ 1);
    ArriveAndExpect(full, kBoxBytes);
    LoadBox(input, SharedAddress(memory.boxes[ring.stage]),
            {chunk * kChunkChannels, tile.column - kWindow / 2, tile.row - kWindow / 2,
             tile.frame - (tiles.kernel_frames - 1) + tap, tile.clip},
            full);
    ring.Advance();
    if (++chunk < tiles.chunks) return;
    chunk = 0;
    if (++tap == tiles.kernel_frames) TakeTile();
  }
};

// Everything that the tiles of this block are made of.
__device__ __forceinline__ void LoadAll(const ConvTiles& tiles, const ConvMaps& maps,
                                        ConvMemory& memory) {
  BoxLoader boxes = {tiles, maps.input, memory};
  boxes.TakeTile();
  boxes.LoadNext();
  Ring<kWeightStages> ring;
  for (int round = 0;; ++round) {
    const int index = TileOfRound(round, blockIdx.x, gridDim.x);
    if (index >= tiles.Total()) return;
    const ConvTile tile = TileAt(tiles, index);
    for (int frame_tap = tile.first_tap; frame_tap < tiles.kernel_frames; ++frame_tap) {
      for (int chunk = 0; chunk < tiles.chunks; ++chunk) {
        for (int tap = 0; tap < kWindowTaps; ++tap) {
          if (tap == kTapOfNextBox) boxes.LoadNext();
          const uint32_t full = SharedAddress(&memory.weights_full[ring.stage]);
          WaitFor(SharedAddress(&memory.weights_empty[ring.stage]), ring.parity ^ 1);
          ArriveAndExpect(full, kWeightBytes);
          LoadWeights(maps.weights, SharedAddress(memory.weights[ring.stage]),
                      chunk * kChunkChannels, frame_tap * kWindowTaps + tap, tile.channel, full);
          ring.Advance();
        }
      }
    }
  }
}

// One group's half of a tile's channels.
struct Multiplier {
  const ConvTiles& tiles;
  ConvMemory& memory;
  int group;
  bool is_leader;  // the thread that speaks for the group
  Ring<kBoxStages> boxes = {};
  Ring<kWeightStages> weights = {};

  // The sums of a tile.
  __device__ __forceinline__ void Run(const ConvTile& tile, Products& sums) {
    bool adds = false;
    // What the products under way still read.
    uint32_t box_empty = 0, weights_empty = 0;
    const int steps = (tiles.kernel_frames - tile.first_tap) * tiles.chunks;
    for (int step = 0; step < steps; ++step) {
      WaitFor(SharedAddress(&memory.box_full[boxes.stage]), boxes.parity);
      const uint64_t box =
          MatrixAt<kBoxColumns * kSwizzledRow>(SharedAddress(memory.boxes[boxes.stage]));
#pragma unroll 1
      for (int tap = 0; tap < kWindowTaps; ++tap) {
        WaitFor(SharedAddress(&memory.weights_full[weights.stage]), weights.parity);
        const uint64_t a = MatrixAt<kSwizzleBytes>(SharedAddress(memory.weights[weights.stage]) +
                                                   group * kProductRows * kSwizzledRow);
        const uint64_t b =
            Further(box, (tap / kWindow * kBoxColumns + tap % kWindow) * kSwizzledRow);
        BeginProducts();
#pragma unroll
        for (int k = 0; k < kChunkChannels / kProductDepth; ++k) {
          constexpr int kBytes = kProductDepth * 2;
          StartProducts(sums, Further(a, k * kBytes), Further(b, k * kBytes), adds);
          adds = true;
        }
        CommitProducts();
        WaitForProducts<1>();
        Release(box_empty, weights_empty);
        weights_empty = SharedAddress(&memory.weights_empty[weights.stage]);
        box_empty = 0;
        weights.Advance();
      }
      box_empty = SharedAddress(&memory.box_empty[boxes.stage]);
      boxes.Advance();
    }
    WaitForProducts<0>();
    Release(box_empty, weights_empty);
  }

  __device__ __forceinline__ void Release(uint32_t box_empty, uint32_t weights_empty) const {
    if (!is_leader) return;
    if (weights_empty != 0) Arrive(weights_empty);
    if (box_empty != 0) Arrive(box_empty);
  }
};

__device__ __forceinline__ float2 UnpackHalves(uint32_t word) {
  __half2 halves;
  memcpy(&halves, &word, sizeof(word));
  return __half22float2(halves);
}

__device__ __forceinline__ uint32_t PackHalves(float first, float second) {
  const __half2 halves = __floats2half2_rn(first, second);
  uint32_t word;
  memcpy(&word, &halves, sizeof(word));
  return word;
}

// Sums to halves in `results`, channels last and swizzled, after bias and residual; the residual is
// there before. `sums` then has the rounded values.
template <bool kHasResidual>
__device__ __forceinline__ void RoundResults(const float* bias, int first_channel, int warp,
                                             int lane, uint32_t results, Products& sums) {
  const int channel = first_channel + warp * 16 + lane / 4;
  const float biases[2] = {bias == nullptr ? 0.0f : __ldg(bias + channel),
                           bias == nullptr ? 0.0f : __ldg(bias + channel + 8)};
  const int matrix = lane / 8, row = lane % 8;
  const uint32_t unit = ((warp * 2 + matrix % 2) ^ row) * kSwizzledUnit;
#pragma unroll
  for (int j = 0; j < kProductColumns / 8; j += 2) {
    const uint32_t address = results + ((j + matrix / 2) * 8 + row) * kSwizzledRow + unit;
    uint32_t words[4];
    if constexpr (kHasResidual) LoadTransposed(address, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float* pair = &sums[4 * j + 2 * k];
      float2 added = {biases[k % 2], biases[k % 2]};
      if constexpr (kHasResidual) {
        const float2 residual = UnpackHalves(words[k]);
        added.x += residual.x;
        added.y += residual.y;
      }
      words[k] = PackHalves(pair[0] + added.x, pair[1] + added.y);
      const float2 rounded = UnpackHalves(words[k]);
      pair[0] = rounded.x;
      pair[1] = rounded.y;
    }
    StoreTransposed(address, words);
  }
}

// The moments of two sets of equally many values.
__device__ __forceinline__ Moments MergeEqual(const Moments& a, const Moments& b) {
  const float delta = b.mean - a.mean;
  return {2.0f * a.count, 0.5f * (a.mean + b.mean),
          a.deviations + b.deviations + 0.5f * a.count * delta * delta};
}

// Merges what the four threads of a row have of it.
__device__ __forceinline__ Moments MergeRow(Moments value) {
#pragma unroll
  for (int offset = 1; offset <= 2; offset *= 2) {
    value = MergeEqual(value, {value.count, __shfl_xor_sync(~0u, value.mean, offset),
                               __shfl_xor_sync(~0u, value.deviations, offset)});
  }
  return value;
}

// The moments of a tile's channels, in `channels`. Values that are all equal have none but a mean:
// their sum is exact.
__device__ __forceinline__ void TakeMoments(const Products& sums, int warp, int lane,
                                            Moments* channels) {
  constexpr int kPairs = kProductRegisters / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total[2] = {};
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      total[0] += sums[4 * j + 2 * half];
      total[1] += sums[4 * j + 2 * half + 1];
    }
    const float mean = (total[0] + total[1]) * (0.5f / kPairs);
    float spread[2] = {};
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float deviation = sums[4 * j + 2 * half + k] - mean;
        spread[k] += deviation * deviation;
      }
    }
    const Moments row = MergeRow({2.0f * kPairs, mean, spread[0] + spread[1]});
    if (lane % 4 == 0) channels[warp * 16 + half * 8 + lane / 4] = row;
  }
}

// A partial for each group of the channels from `first_channel` on.
__device__ __forceinline__ void StoreGroups(const ConvEnd& end, const ConvTile& tile,
                                            int tiles_of_clip, int first_channel, int thread,
                                            const Moments* channels) {
  if (thread >= kProductRows / end.group_channels) return;
  Moments total = channels[thread * end.group_channels];
  for (int i = 1; i < end.group_channels; ++i) {
    total = Merge(total, channels[thread * end.group_channels + i]);
  }
  const int64_t group = first_channel / end.group_channels + thread;
  StorePartial(
      total, end.partials + (int64_t{tile.clip} * end.groups + group) * tiles_of_clip + tile.place);
}

template <bool kHasResidual, bool kHasMoments>
__device__ __forceinline__ void MultiplyAll(const ConvTiles& tiles, const ConvMaps& maps,
                                            const ConvEnd& end, int group, ConvMemory& memory) {
  const int thread = threadIdx.x % kGroupThreads;
  const int warp = thread / kWarpThreads, lane = thread % kWarpThreads;
  const uint32_t results = SharedAddress(memory.results[group]);
  const uint32_t residual_full = SharedAddress(&memory.residual_full[group]);
  Multiplier multiplier = {tiles, memory, group, thread == 0};
  Products sums;
  for (int round = 0;; ++round) {
    const int index = TileOfRound(round, blockIdx.x, gridDim.x);
    if (index >= tiles.Total()) break;
    const ConvTile tile = TileAt(tiles, index);
    const int channel = tile.channel + group * kProductRows;
    const BoxPlace place = {channel, tile.column, tile.row, tile.frame, tile.clip};
    if (kHasResidual && thread == 0) {
      WaitForStoresToRead();
      ArriveAndExpect(residual_full, kHalfTileBytes);
      LoadBox(maps.residual, results, place, residual_full);
    }
    multiplier.Run(tile, sums);
    if constexpr (kHasResidual) {
      WaitFor(residual_full, round % 2);
    } else {
      if (thread == 0) WaitForStoresToRead();
      SynchronizeGroup(group);
    }
    RoundResults<kHasResidual>(end.bias, channel, warp, lane, results, sums);
    ShowToCopies();
    SynchronizeGroup(group);
    if (thread == 0) StoreBox(maps.output, results, place);
    if constexpr (kHasMoments) {
      TakeMoments(sums, warp, lane, memory.moments[group]);
      SynchronizeGroup(group);
      StoreGroups(end, tile, tiles.OfClip(), channel, thread, memory.moments[group]);
    }
  }
  if (thread == 0) WaitForStores();
}

// Grid: as many blocks as there are multiprocessors, or tiles. Dynamic shared memory:
// kConvSharedBytes.
constexpr int kConvSharedBytes = sizeof(ConvMemory) + kSwizzleBytes;

template <bool kHasResidual, bool kHasMoments>
__global__ void __launch_bounds__(kConvThreads, 1)
    ConvOnTensorCores(const __grid_constant__ ConvMaps maps, const ConvTiles tiles,
                      const ConvEnd end) {
  extern __shared__ uint8_t shared[];
  const uint32_t skipped = -SharedAddress(shared) % kSwizzleBytes;
  ConvMemory& memory = *reinterpret_cast<ConvMemory*>(shared + skipped);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kBoxStages; ++i) {
      InitializeBarrier(SharedAddress(&memory.box_full[i]), 1);
      InitializeBarrier(SharedAddress(&memory.box_empty[i]), kConvGroups);
    }
    for (int i = 0; i < kWeightStages; ++i) {
      InitializeBarrier(SharedAddress(&memory.weights_full[i]), 1);
      InitializeBarrier(SharedAddress(&memory.weights_empty[i]), kConvGroups);
    }
    for (int i = 0; i < kConvGroups; ++i) {
      InitializeBarrier(SharedAddress(&memory.residual_full[i]), 1);
    }
    ShowToCopies();
  }
  __syncthreads();
  WaitForPredecessor();
  // A multiprocessor's registers, shared out: 168 for each thread before.
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  if (group == kConvGroups) {
    KeepRegisters<40>();
    if (threadIdx.x % kGroupThreads == 0) LoadAll(tiles, maps, memory);
  } else {
    TakeRegisters<232>();
    MultiplyAll<kHasResidual, kHasMoments>(tiles, maps, end, group, memory);
  }
}

constexpr int kFinishThreads = 256;

// Each group's partials to the normalisation of its channels. Grid: (clips * groups).
__global__ void __launch_bounds__(kFinishThreads)
    FinishConvMoments(StatisticsTarget target, int partials) {
  __shared__ Moments shared[kFinishThreads];
  WaitForPredecessor();
  LetSuccessorBegin();
  const auto groups = static_cast<int>(target.options.num_groups);
  const int clip = blockIdx.x / groups;
  FinishGroups<kFinishThreads>(target, clip, blockIdx.x - clip * groups, 1,
                               {target.partials + int64_t{blockIdx.x} * partials, partials, 1, 0},
                               shared);
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_
