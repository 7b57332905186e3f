// A block of a 3x3 conv of stride 1 in Winograd's form. The frames that the kernel covers are terms
// of one matrix product for each of the 36 products of a window.
#ifndef MAGVIT_CONV_WINOGRAD_CONV_H_
#define MAGVIT_CONV_WINOGRAD_CONV_H_

#include <cstdint>

#include "conv/conv_kernels.h"
#include "conv/input_reader.h"
#include "conv/matrix_product.h"
#include "conv/tile_output.h"
#include "conv/winograd.h"

namespace magvit {
namespace MAGVIT_ISA {

inline int64_t Chunks(int64_t channels) { return (channels + kLanes - 1) / kLanes; }
inline int64_t Panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

// Packed weights: [product][panel][frame tap][input channel, whole chunks][kPanel].
inline size_t WinogradPackedSize(const ConvShape& shape) {
  return kProducts * Panels(shape.out_channels) * shape.kernel[0] * Chunks(shape.in_channels) *
         kLanes * kPanel;
}

inline void PackWinogradPanel(const ConvShape& shape, const float* weights, int64_t panel,
                              float* packed) {
  const int64_t taps = shape.kernel[0];
  const int64_t channels = Chunks(shape.in_channels) * kLanes;
  const int64_t product_stride = Panels(shape.out_channels) * taps * channels * kPanel;
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t in = 0; in < channels; ++in) {
      float* target = packed + ((panel * taps + tap) * channels + in) * kPanel;
      for (int64_t lane = 0; lane < kPanel; ++lane) {
        const int64_t out = panel * kPanel + lane;
        double rows[3][kWindow] = {};
        if (in < shape.in_channels && out < shape.out_channels) {
          const float* source = weights + ((out * shape.in_channels + in) * taps + tap) * 9;
          for (int i = 0; i < 3; ++i) {
            const double row[3] = {source[3 * i], source[3 * i + 1], source[3 * i + 2]};
            TransformWeights(row, rows[i]);
          }
        }
        for (int j = 0; j < kWindow; ++j) {
          const double column[3] = {rows[0][j], rows[1][j], rows[2][j]};
          double transformed[kWindow];
          TransformWeights(column, transformed);
          for (int i = 0; i < kWindow; ++i) {
            target[(i * kWindow + j) * product_stride + lane] = static_cast<float>(transformed[i]);
          }
        }
      }
    }
  }
}

// The inputs' part of the scratch memory: [product][chunk][row][kLanes].
inline int64_t WinogradInputSize(const ConvTask& task) {
  return kProducts * Chunks(task.shape->in_channels) * task.input_rows[task.input_frames] * kLanes;
}

inline size_t WinogradScratchSize(const ConvTask& task) {
  return WinogradInputSize(task) + kProducts * (task.last_panel - task.first_panel) *
                                       task.output_rows[task.output_frames] * kPanel;
}

// The pixels of a window, null where it is padding.
inline void FindWindow(const MapView& view, int64_t frame, int64_t y, int64_t x,
                       const float* (&pixels)[kProducts]) {
  const magvit_feature_map& map = *view.map;
  const bool is_inside = map.first_frames == nullptr && y >= 0 && y + kWindow <= map.height &&
                         x >= 0 && x + kWindow <= map.width;
  if (is_inside) {
    const float* first =
        map.values + ((frame * map.height + y) * map.width + x) * map.channel_pitch;
    for (int i = 0; i < kProducts; ++i) {
      pixels[i] = first + (i / kWindow * map.width + i % kWindow) * map.channel_pitch;
    }
    return;
  }
  for (int i = 0; i < kProducts; ++i) {
    pixels[i] = PixelOf(view, frame, y + i / kWindow, x + i % kWindow);
  }
}

template <typename Reader>
void TransformWindow(const float* const (&pixels)[kProducts], int64_t chunk, const Reader& read,
                     int64_t product_stride, float* target) {
  Lanes columns[kWindow][kWindow];
  for (int j = 0; j < kWindow; ++j) {
    Lanes column[kWindow], transformed[kWindow];
    for (int i = 0; i < kWindow; ++i) {
      const float* pixel = pixels[i * kWindow + j];
      column[i] = pixel ? read(Load(pixel + chunk * kLanes)) : Lanes{};
    }
    TransformInputs(column, transformed);
    for (int i = 0; i < kWindow; ++i) columns[i][j] = transformed[i];
  }
  for (int i = 0; i < kWindow; ++i) {
    Lanes transformed[kWindow];
    TransformInputs(columns[i], transformed);
    for (int j = 0; j < kWindow; ++j) {
      Store(transformed[j], target + (i * kWindow + j) * product_stride);
    }
  }
}

template <typename Reader>
void TransformBlock(const ConvTask& task, Reader read, float* inputs) {
  const int64_t rows = task.input_rows[task.input_frames];
  const int64_t chunks = Chunks(task.shape->in_channels);
  const int64_t product_stride = chunks * rows * kLanes;
  for (int64_t frame = 0; frame < task.input_frames; ++frame) {
    for (int64_t row = task.input_rows[frame]; row < task.input_rows[frame + 1]; ++row) {
      const TileColumn& column = task.block.columns[row - task.input_rows[frame]];
      const float* pixels[kProducts];
      FindWindow(task.input, frame, column.y - task.shape->pads_before[1],
                 column.x - task.shape->pads_before[2], pixels);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        read.MoveTo(chunk * kLanes);
        TransformWindow(pixels, chunk, read, product_stride,
                        inputs + (chunk * rows + row) * kLanes);
      }
    }
  }
}

// Output frames [frame, end) whose rows are one block of one matrix product, and its terms.
struct FrameRun {
  int64_t end;
  int term_count;
  int64_t taps[kMaxFrameTaps];  // kernel frames that see the clip rather than padding
};

inline FrameRun RunFrom(const ConvTask& task, int64_t frame) {
  const auto sees = [&](int64_t output_frame, int64_t tap) {
    const int64_t input_frame = output_frame - task.shape->pads_before[0] + tap;
    return input_frame >= 0 && input_frame < task.input_frames;
  };
  const auto rows = [](const int64_t* first_rows, int64_t at) {
    return first_rows[at + 1] - first_rows[at];
  };
  FrameRun run = {frame + 1, 0, {}};
  for (int64_t tap = 0; tap < task.shape->kernel[0]; ++tap) {
    if (sees(frame, tap)) run.taps[run.term_count++] = tap;
  }
  const int64_t count = rows(task.output_rows, frame);
  for (; run.end < task.output_frames; ++run.end) {
    bool continues = rows(task.output_rows, run.end) == count;
    for (int64_t tap = 0; tap < task.shape->kernel[0]; ++tap) {
      const bool is_term = sees(run.end, tap);
      continues = continues && is_term == sees(frame, tap);
      // This input frame must have as many rows as the outputs, so that the block stays regular.
      const int64_t before = run.end - 1 - task.shape->pads_before[0] + tap;
      continues = continues && (!is_term || rows(task.input_rows, before) == count);
    }
    if (!continues) break;
  }
  return run;
}

inline void MultiplyBlock(const ConvTask& task, const float* inputs, float* outputs) {
  const ConvShape& shape = *task.shape;
  const int64_t input_rows = task.input_rows[task.input_frames];
  const int64_t output_rows = task.output_rows[task.output_frames];
  const int64_t chunks = Chunks(shape.in_channels);
  const int64_t panels = Panels(shape.out_channels);
  const int64_t tap_size = chunks * kLanes * kPanel;
  for (int64_t frame = 0; frame < task.output_frames;) {
    const FrameRun run = RunFrom(task, frame);
    const int64_t first_row = task.output_rows[frame];
    const int64_t count = task.output_rows[run.end] - first_row;
    for (int64_t product = 0; count > 0 && product < kProducts; ++product) {
      for (int64_t panel = task.first_panel; panel < task.last_panel; ++panel) {
        Term terms[kMaxFrameTaps];
        for (int i = 0; i < run.term_count; ++i) {
          const int64_t tap = run.taps[i];
          const int64_t row = task.input_rows[frame - shape.pads_before[0] + tap];
          terms[i].inputs = inputs + (product * chunks * input_rows + row) * kLanes;
          terms[i].weights =
              task.weights + ((product * panels + panel) * shape.kernel[0] + tap) * tap_size;
        }
        const int64_t target =
            product * (task.last_panel - task.first_panel) + panel - task.first_panel;
        Multiply(terms, run.term_count, chunks, input_rows * kLanes, count,
                 outputs + (target * output_rows + first_row) * kPanel);
      }
    }
    frame = run.end;
  }
}

inline void StoreBlock(const ConvTask& task, const float* outputs) {
  const int64_t rows = task.output_rows[task.output_frames];
  const int64_t panels = task.last_panel - task.first_panel;
  float before = 0.0f;
  for (int64_t frame = 0; frame < task.output_frames; ++frame) {
    for (int64_t row = task.output_rows[frame]; row < task.output_rows[frame + 1]; ++row) {
      TileOutput tile(task, task.block.columns[row - task.output_rows[frame]], frame);
      for (int64_t vector = 0; vector < 2 * panels; ++vector) {
        const int64_t channel = task.first_panel * kPanel + vector * kLanes;
        if (channel >= task.pitch) break;
        const float* source = outputs + (vector / 2 * rows + row) * kPanel + vector % 2 * kLanes;
        Lanes half[4][kWindow], values[kTilePixels];
        for (int j = 0; j < kWindow; ++j) {
          Lanes column[kWindow], transformed[4];
          for (int i = 0; i < kWindow; ++i) {
            column[i] = Load(source + (i * kWindow + j) * panels * rows * kPanel);
          }
          TransformOutputs(column, transformed);
          for (int i = 0; i < 4; ++i) half[i][j] = transformed[i];
        }
        for (int i = 0; i < 4; ++i) {
          Lanes transformed[4];
          TransformOutputs(half[i], transformed);
          for (int j = 0; j < 4; ++j) values[i * 4 + j] = transformed[j];
        }
        tile.Store(values, channel, before);
      }
      before += tile.count();
    }
  }
}

inline void RunWinograd(const ConvTask& task) {
  float* inputs = task.scratch;
  float* outputs = task.scratch + WinogradInputSize(task);
  WithReader(task.normalization, [&](const auto& read) { TransformBlock(task, read, inputs); });
  MultiplyBlock(task, inputs, outputs);
  StoreBlock(task, outputs);
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_WINOGRAD_CONV_H_
