// The common part of the convs of all instruction sets: a conv's weights, and one task of a run.
#ifndef MAGVIT_CONV_CONV_KERNELS_H_
#define MAGVIT_CONV_CONV_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "conv/feature_map.h"
#include "magvit/operators.h"

namespace magvit {

// A conv with its packed weights.
struct ConvShape {
  int64_t in_channels, out_channels;
  int64_t kernel[3], stride[3], pads_before[3];
  bool is_winograd;
};

// One block of tiles in a range of output channels.
struct ConvTask {
  const ConvShape* shape;
  const float* weights;  // as `pack` laid them out
  const float* bias;     // padded to whole panels; never null

  MapView input;
  const magvit_normalization* normalization;  // or null
  MapView residual;                           // map is null if there is none
  float* output;                              // values or background
  int64_t height, width, pitch;               // of the output or its background

  TileBlock block;
  // First row of each frame, then the number of rows. A row is one tile in one frame; frame t has
  // the rows of the block's first columns, as many as have begun by then.
  const int64_t* input_rows;
  const int64_t* output_rows;
  int64_t input_frames, output_frames;
  int64_t first_panel, last_panel;

  float* scratch;
  const float* counts;  // pixels that each pixel stands for, or null: one each
  // Mean and squared deviations of each channel over the block, [pitch]; null if not wanted.
  float* means;
  float* deviations;
};

// The implementation for one instruction set.
struct ConvKernels {
  const char* name;
  int64_t lanes, panel;
  // Floats of a conv's packed weights, and of one panel of output channels.
  size_t (*packed_size)(const ConvShape& shape);
  void (*pack_panel)(const ConvShape& shape, const float* weights, int64_t panel, float* packed);
  // Floats of scratch memory for a task.
  size_t (*scratch_size)(const ConvTask& task);
  void (*run)(const ConvTask& task);
};

extern const ConvKernels kPortableConvKernels;
#ifdef MAGVIT_HAS_X86_KERNELS
extern const ConvKernels kAvx2ConvKernels;
extern const ConvKernels kAvx512ConvKernels;
#endif

}  // namespace magvit

#endif  // MAGVIT_CONV_CONV_KERNELS_H_
