// The end of every conv: bias, residual, the store, and the moments of what was stored.
#ifndef MAGVIT_CONV_TILE_OUTPUT_H_
#define MAGVIT_CONV_TILE_OUTPUT_H_

#include <cstdint>

#include "conv/conv_kernels.h"
#include "conv/simd.h"

namespace magvit {
namespace MAGVIT_ISA {

constexpr int kTilePixels = kTile * kTile;

// One tile in one frame: where its pixels go, what is added to them, and how often they count.
class TileOutput {
 public:
  TileOutput(const ConvTask& task, const TileColumn& column, int64_t frame) : task_(task) {
    for (int i = 0; i < kTilePixels; ++i) {
      const int64_t y = column.y + i / kTile, x = column.x + i % kTile;
      const bool inside = y < task.height && x < task.width;
      const int64_t pixel = (frame * task.height + y) * task.width + x;
      targets_[i] = inside ? task.output + pixel * task.pitch : nullptr;
      residuals_[i] = inside && task.residual.map ? PixelOf(task.residual, frame, y, x) : nullptr;
      counts_[i] = !inside ? 0.0f : task.counts ? task.counts[pixel] : 1.0f;
      count_ += counts_[i];
    }
  }

  // Pixels that the tile stands for.
  float count() const { return count_; }

  // Stores kLanes channels of the tile's pixels, and adds them to the block's moments of `before`
  // earlier pixels.
  void Store(const Lanes (&values)[kTilePixels], int64_t channel, float before) {
    const Lanes bias = Load(task_.bias + channel);
    Lanes results[kTilePixels];
    Lanes sum = {};
    for (int i = 0; i < kTilePixels; ++i) {
      results[i] = values[i] + bias;
      if (residuals_[i]) results[i] += Load(residuals_[i] + channel);
      if (targets_[i]) MAGVIT_ISA::Store(results[i], targets_[i] + channel);
      sum += counts_[i] * results[i];
    }
    if (task_.means == nullptr || count_ == 0.0f) return;
    const Lanes mean = sum * (1.0f / count_);
    Lanes deviations = {};
    for (int i = 0; i < kTilePixels; ++i) {
      const Lanes centered = results[i] - mean;
      deviations += counts_[i] * (centered * centered);
    }
    // Merging means and squared deviations keeps digits that a sum of squares would lose.
    // Source: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979.
    const float share = count_ / (before + count_);
    const Lanes block_mean = Load(task_.means + channel);
    const Lanes difference = mean - block_mean;
    MAGVIT_ISA::Store(block_mean + difference * share, task_.means + channel);
    MAGVIT_ISA::Store(
        Load(task_.deviations + channel) + deviations + difference * difference * (before * share),
        task_.deviations + channel);
  }

 private:
  const ConvTask& task_;
  float* targets_[kTilePixels];
  const float* residuals_[kTilePixels];
  float counts_[kTilePixels];
  float count_ = 0.0f;
};

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_TILE_OUTPUT_H_
