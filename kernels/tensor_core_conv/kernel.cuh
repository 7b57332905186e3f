// A causal conv with windows of 3x3 positions as a product on tensor cores, for compute capability
// 9.0: output channels times positions.
//
// One block runs on each multiprocessor and takes tile after tile. One thread loads what the two
// groups of four warps multiply, half of a tile's channels each. A box of the input, with the
// positions around the tile, is loaded once for all nine taps of a frame: a tap is the same box,
// read from a few rows further on. So there is a seventh of the input's loads that a product of
// gathered inputs would take. What lies outside of the frame is loaded as zeros. Frames before the
// clip aren't multiplied at all.
#ifndef MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_
#define MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_

#include <cstdint>

#include "group_norm_silu/statistics.h"
#include "tensor/launch.cuh"
#include "tensor_core_conv/hopper.cuh"
#include "tensor_core_conv/results.cuh"
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
    Settle(sums);
    Release(box_empty, weights_empty);
  }

  __device__ __forceinline__ void Release(uint32_t box_empty, uint32_t weights_empty) const {
    if (!is_leader) return;
    if (weights_empty != 0) Arrive(weights_empty);
    if (box_empty != 0) Arrive(box_empty);
  }
};

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

// Registers of a thread: at the start, and after they are shared out. What the compiler gives at
// the start follows from the threads of a block.
constexpr int kStartRegisters = 168;
constexpr int kLoaderRegisters = 40;
constexpr int kMultiplierRegisters = 232;
static_assert(kStartRegisters * kConvThreads <= 65536 &&
                  kLoaderRegisters + kConvGroups * kMultiplierRegisters <=
                      (kConvGroups + 1) * kStartRegisters,
              "a multiprocessor has them");

// Grid: as many blocks as there are multiprocessors, or tiles. Dynamic shared memory:
// kConvSharedBytes, which only one block of a multiprocessor has.
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
  // A multiprocessor's registers, shared out.
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  if (group == kConvGroups) {
    KeepRegisters<kLoaderRegisters>();
    if (threadIdx.x % kGroupThreads == 0) LoadAll(tiles, maps, memory);
  } else {
    TakeRegisters<kMultiplierRegisters>();
    MultiplyAll<kHasResidual, kHasMoments>(tiles, maps, end, group, memory);
  }
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_CORE_CONV_KERNEL_CUH_
