// A block of a conv that isn't Winograd's: the pixels that each output sees are gathered into rows
// for one matrix product.
#ifndef MAGVIT_CONV_PRODUCT_CONV_H_
#define MAGVIT_CONV_PRODUCT_CONV_H_

#include <cstdint>

#include "conv/conv_kernels.h"
#include "conv/input_reader.h"
#include "conv/matrix_product.h"
#include "conv/tile_output.h"
#include "conv/winograd_conv.h"

namespace magvit {
namespace MAGVIT_ISA {

// Tiles whose pixels are gathered at once: their rows stay in the second-level cache.
constexpr int64_t kGatheredTiles = 10;

inline int64_t KernelPixels(const ConvShape& shape) {
  return shape.kernel[0] * shape.kernel[1] * shape.kernel[2];
}

// Length of a gathered row: kernel pixels times input channels.
inline int64_t RowLength(const ConvShape& shape) { return KernelPixels(shape) * shape.in_channels; }

// Packed weights: [panel][row element, whole chunks][kPanel].
inline size_t ProductPackedSize(const ConvShape& shape) {
  return Panels(shape.out_channels) * Chunks(RowLength(shape)) * kLanes * kPanel;
}

inline void PackProductPanel(const ConvShape& shape, const float* weights, int64_t panel,
                             float* packed) {
  const int64_t length = Chunks(RowLength(shape)) * kLanes;
  const int64_t pixels = KernelPixels(shape);
  for (int64_t element = 0; element < length; ++element) {
    const int64_t pixel = element / shape.in_channels, in = element % shape.in_channels;
    for (int64_t lane = 0; lane < kPanel; ++lane) {
      const int64_t out = panel * kPanel + lane;
      const bool is_inside = element < RowLength(shape) && out < shape.out_channels;
      packed[(panel * length + element) * kPanel + lane] =
          is_inside ? weights[(out * shape.in_channels + in) * pixels + pixel] : 0.0f;
    }
  }
}

inline int64_t ProductInputSize(const ConvTask& task) {
  return Chunks(RowLength(*task.shape)) * kLanes * kGatheredTiles * kTilePixels;
}

inline size_t ProductScratchSize(const ConvTask& task) {
  return ProductInputSize(task) +
         (task.last_panel - task.first_panel) * kPanel * kGatheredTiles * kTilePixels;
}

// Writes the pixels that one output sees into a row of [chunk][row][kLanes].
template <typename Reader>
void GatherRow(const ConvTask& task, Reader& read, int64_t frame, int64_t y, int64_t x,
               int64_t rows, float* target) {
  const ConvShape& shape = *task.shape;
  const int64_t channels = shape.in_channels;
  const bool is_whole = channels % kLanes == 0;
  for (int64_t pixel = 0; pixel < KernelPixels(shape); ++pixel) {
    const int64_t at[3] = {pixel / (shape.kernel[1] * shape.kernel[2]),
                           pixel / shape.kernel[2] % shape.kernel[1], pixel % shape.kernel[2]};
    const float* source =
        PixelOf(task.input, frame * shape.stride[0] - shape.pads_before[0] + at[0],
                y * shape.stride[1] - shape.pads_before[1] + at[1],
                x * shape.stride[2] - shape.pads_before[2] + at[2]);
    for (int64_t channel = 0; is_whole && channel < channels; channel += kLanes) {
      read.MoveTo(channel);
      Store(source ? read(Load(source + channel)) : Lanes{},
            target + (pixel * channels + channel) * rows);
    }
    for (int64_t channel = 0; !is_whole && channel < channels; ++channel) {
      const int64_t element = pixel * channels + channel;
      target[element / kLanes * kLanes * rows + element % kLanes] =
          source ? read.One(source[channel], channel) : 0.0f;
    }
  }
  for (int64_t element = RowLength(shape); element % kLanes != 0; ++element) {
    target[element / kLanes * kLanes * rows + element % kLanes] = 0.0f;
  }
}

inline void StoreTile(const ConvTask& task, TileOutput& tile, const float* outputs, int64_t rows,
                      float before) {
  for (int64_t vector = 0; vector < 2 * (task.last_panel - task.first_panel); ++vector) {
    const int64_t channel = task.first_panel * kPanel + vector * kLanes;
    if (channel >= task.pitch) break;
    Lanes values[kTilePixels];
    for (int i = 0; i < kTilePixels; ++i) {
      values[i] = Load(outputs + (vector / 2 * rows + i) * kPanel + vector % 2 * kLanes);
    }
    tile.Store(values, channel, before);
  }
}

template <typename Reader>
void RunProduct(const ConvTask& task, Reader read) {
  float* inputs = task.scratch;
  float* outputs = task.scratch + ProductInputSize(task);
  const int64_t chunks = Chunks(RowLength(*task.shape));
  float before = 0.0f;
  for (int64_t frame = 0; frame < task.output_frames; ++frame) {
    const int64_t columns = task.output_rows[frame + 1] - task.output_rows[frame];
    for (int64_t first = 0; first < columns; first += kGatheredTiles) {
      const int64_t rest = columns - first;
      const int64_t tiles = rest < kGatheredTiles ? rest : kGatheredTiles;
      const int64_t rows = tiles * kTilePixels;
      for (int64_t row = 0; row < rows; ++row) {
        const TileColumn& column = task.block.columns[first + row / kTilePixels];
        const int64_t pixel = row % kTilePixels;
        GatherRow(task, read, frame, column.y + pixel / kTile, column.x + pixel % kTile, rows,
                  inputs + row * kLanes);
      }
      for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
        const Term term = {inputs, task.weights + panel * chunks * kLanes * kPanel};
        Multiply(&term, 1, chunks, rows * kLanes, rows,
                 outputs + (panel - task.first_panel) * rows * kPanel);
      }
      for (int64_t i = 0; i < tiles; ++i) {
        TileOutput tile(task, task.block.columns[first + i], frame);
        StoreTile(task, tile, outputs + i * kTilePixels * kPanel, rows, before);
        before += tile.count();
      }
    }
  }
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_PRODUCT_CONV_H_
