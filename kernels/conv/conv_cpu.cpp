// The convs of the C interface: checks, the choice of an instruction set, and the tasks of a run.
#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "conv/aligned_floats.h"
#include "conv/block_moments.h"
#include "conv/conv_kernels.h"
#include "conv/instruction_set.h"
#include "conv/pool.h"
#include "conv/tile_blocks.h"
#include "magvit/operators.h"
#include "tensor/shape.h"
#include "tensor/thread_pool.h"

namespace magvit {
namespace {

const ConvKernels& Kernels() {
  static const ConvKernels& kernels = ChooseKernels(MAGVIT_ALL_KERNELS(ConvKernels));
  return kernels;
}

}  // namespace
}  // namespace magvit

struct magvit_conv {
  magvit::ConvShape shape;
  const magvit::ConvKernels& kernels;
  magvit::Floats weights, bias;
  int64_t panels;
};

namespace magvit {
namespace {

bool IsWinograd(const magvit_conv_options& options) {
  const auto [frames, height, width] = options.kernel;
  const auto all = [](const int64_t (&values)[3], int64_t value) {
    return std::all_of(values, values + 3, [&](int64_t v) { return v == value; });
  };
  // A handful of input channels would fill only a part of each vector.
  return frames <= 3 && height == 3 && width == 3 && all(options.stride, 1) &&
         options.in_channels >= MAGVIT_CHANNEL_MULTIPLE;
}

magvit_status CheckOptions(const magvit_conv_options& options) {
  if (options.weights == nullptr) return MAGVIT_NULL_POINTER;
  if (options.in_channels < 1 || options.out_channels < 1) return MAGVIT_BAD_CONV;
  for (int i = 0; i < 3; ++i) {
    if (options.kernel[i] < 1 || options.stride[i] < 1 || options.pads_before[i] < 0 ||
        options.pads_before[i] >= options.kernel[i]) {
      return MAGVIT_BAD_CONV;
    }
  }
  return MAGVIT_OK;
}

magvit_status CheckMap(const magvit_feature_map& map, int64_t channels) {
  if (map.values == nullptr) return MAGVIT_NULL_POINTER;
  if (map.frames < 1 || map.height < 1 || map.width < 1 || map.channels != channels ||
      map.channel_pitch < channels || map.channel_pitch % MAGVIT_CHANNEL_MULTIPLE != 0) {
    return MAGVIT_BAD_SHAPE;
  }
  if (map.first_frames == nullptr) return MAGVIT_OK;
  if (map.background == nullptr) return MAGVIT_NULL_POINTER;
  if (map.background_height < 1 || map.background_height > map.height || map.background_width < 1 ||
      map.background_width > map.width) {
    return MAGVIT_BAD_BACKGROUND;
  }
  return MAGVIT_OK;
}

// Whether every window of the output begins within the padded input and ends at most one kernel
// past its end.
bool Covers(const ConvShape& shape, const magvit_feature_map& input,
            const magvit_feature_map& output) {
  const int64_t in[3] = {input.frames, input.height, input.width};
  const int64_t out[3] = {output.frames, output.height, output.width};
  for (int i = 0; i < 3; ++i) {
    const int64_t last = (out[i] - 1) * shape.stride[i] - shape.pads_before[i];
    if (last >= in[i]) return false;
  }
  return true;
}

magvit_status CheckCall(const ConvShape& shape, const magvit_conv_call& call) {
  if (call.input == nullptr || call.output == nullptr) return MAGVIT_NULL_POINTER;
  for (const auto& [map, channels] :
       {std::pair(call.input, shape.in_channels),
        std::pair<const magvit_feature_map*, int64_t>(call.output, shape.out_channels),
        std::pair(call.residual, shape.out_channels)}) {
    if (map == nullptr) continue;
    if (const magvit_status status = CheckMap(*map, channels); status != MAGVIT_OK) return status;
  }
  const magvit_feature_map& output = *call.output;
  if (!Covers(shape, *call.input, output)) return MAGVIT_BAD_SHAPE;
  if (call.residual != nullptr &&
      (call.residual->frames != output.frames || call.residual->height != output.height ||
       call.residual->width != output.width ||
       call.residual->channel_pitch != output.channel_pitch)) {
    return MAGVIT_BAD_SHAPE;
  }
  // A map without shared background can be neither read nor written as background.
  if (output.first_frames != nullptr &&
      (call.input->first_frames == nullptr ||
       (call.residual != nullptr && call.residual->first_frames == nullptr))) {
    return MAGVIT_BAD_BACKGROUND;
  }
  if (call.moments != nullptr) {
    if (call.groups < 1 || shape.out_channels % call.groups != 0) return MAGVIT_BAD_GROUPS;
    if (output.first_frames != nullptr && call.background_counts == nullptr) {
      return MAGVIT_NULL_POINTER;
    }
  }
  if (const magvit_normalization* normalization = call.normalization) {
    if (!normalization->mean || !normalization->scale || !normalization->shift) {
      return MAGVIT_NULL_POINTER;
    }
    if (normalization->activation != MAGVIT_SILU &&
        normalization->activation != MAGVIT_NO_ACTIVATION) {
      return MAGVIT_BAD_ENUM;
    }
  }
  return MAGVIT_OK;
}

ConvTask TaskOf(const magvit_conv& conv, const magvit_conv_call& call, const PlannedBlock& block) {
  const magvit_feature_map& input = *call.input;
  const magvit_feature_map& output = *call.output;
  ConvTask task = {};
  task.shape = &conv.shape;
  task.weights = conv.weights.get();
  task.bias = conv.bias.get();
  task.normalization = call.normalization;
  task.block = block.tiles;
  task.input_rows = block.input_rows.data();
  task.output_rows = block.output_rows.data();
  task.input_frames = input.frames;
  task.output_frames = output.frames;
  task.pitch = output.channel_pitch;
  if (block.tiles.is_background) {
    // An all-background clip of the size of the output's background, and an input to it that ends
    // after its last window as the real one does.
    const auto size = [&](int axis, int64_t in, int64_t out, int64_t background) {
      return in + (background - out) * conv.shape.stride[axis];
    };
    task.output = output.background;
    task.height = output.background_height;
    task.width = output.background_width;
    task.input = {&input, size(1, input.height, output.height, task.height),
                  size(2, input.width, output.width, task.width), true};
    task.counts = call.background_counts;
  } else {
    task.output = output.values;
    task.height = output.height;
    task.width = output.width;
    task.input = {&input, input.height, input.width, false};
  }
  task.residual = {call.residual, task.height, task.width, block.tiles.is_background};
  return task;
}

void Run(const magvit_conv& conv, const magvit_conv_call& call, ThreadPool& threads) {
  const TileBlocks plan(*call.output, call.input->frames, conv.shape.pads_before[0]);
  const std::vector<PlannedBlock>& blocks = plan.blocks();
  const int64_t block_count = static_cast<int64_t>(blocks.size());
  const int64_t pitch = call.output->channel_pitch;

  BlockMoments moments;
  if (call.moments != nullptr) {
    moments.means = AllocateZeros(block_count * pitch);
    moments.deviations = AllocateZeros(block_count * pitch);
    for (const PlannedBlock& block : blocks) moments.counts.push_back(PixelCount(block, call));
  }

  // If there are few blocks, threads share one by its output channels, and each transforms the
  // inputs.
  const int64_t wanted = threads.threads() > 1 ? 2 * threads.threads() : 1;
  const int64_t parts = std::clamp<int64_t>(DivideUp(wanted, block_count), 1, conv.panels);
  const auto lock = threads.Own();
  size_t scratch = 0;
  std::vector<ConvTask> tasks;
  for (int64_t i = 0; i < block_count; ++i) {
    ConvTask task = TaskOf(conv, call, blocks[i]);
    if (call.moments != nullptr) {
      task.means = moments.means.get() + i * pitch;
      task.deviations = moments.deviations.get() + i * pitch;
    }
    for (int64_t part = 0; part < parts; ++part) {
      task.first_panel = conv.panels * part / parts;
      task.last_panel = conv.panels * (part + 1) / parts;
      scratch = std::max(scratch, conv.kernels.scratch_size(task));
      tasks.push_back(task);
    }
  }
  threads.ReserveScratch(scratch * sizeof(float));
  threads.Run(static_cast<int64_t>(tasks.size()), [&](int64_t index, int32_t worker) {
    tasks[index].scratch = threads.Scratch(worker);
    conv.kernels.run(tasks[index]);
  });
  if (call.moments != nullptr) ReduceMoments(moments, call);
}

}  // namespace
}  // namespace magvit

magvit_pool* magvit_pool_create(int32_t threads) {
  try {
    return new magvit_pool{magvit::ThreadPool(threads)};
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

int32_t magvit_pool_threads(const magvit_pool* pool) { return pool->threads.threads(); }

void magvit_pool_destroy(magvit_pool* pool) { delete pool; }

magvit_status magvit_conv_create(const magvit_conv_options* options, magvit_pool* pool,
                                 magvit_conv** conv) {
  if (options == nullptr || pool == nullptr || conv == nullptr) return MAGVIT_NULL_POINTER;
  if (const auto status = magvit::CheckOptions(*options); status != MAGVIT_OK) return status;
  magvit::ConvShape shape = {};
  shape.in_channels = options->in_channels;
  shape.out_channels = options->out_channels;
  std::copy_n(options->kernel, 3, shape.kernel);
  std::copy_n(options->stride, 3, shape.stride);
  std::copy_n(options->pads_before, 3, shape.pads_before);
  shape.is_winograd = magvit::IsWinograd(*options);
  try {
    const magvit::ConvKernels& kernels = magvit::Kernels();
    const int64_t panels = magvit::DivideUp(shape.out_channels, kernels.panel);
    magvit::Floats weights = magvit::Allocate(kernels.packed_size(shape));
    magvit::Floats bias = magvit::AllocateZeros(panels * kernels.panel);
    if (options->bias != nullptr) std::copy_n(options->bias, shape.out_channels, bias.get());
    const auto lock = pool->threads.Own();
    pool->threads.Run(panels, [&](int64_t panel, int32_t) {
      kernels.pack_panel(shape, options->weights, panel, weights.get());
    });
    *conv = new magvit_conv{shape, kernels, std::move(weights), std::move(bias), panels};
  } catch (const std::bad_alloc&) {
    return MAGVIT_OUT_OF_MEMORY;
  }
  return MAGVIT_OK;
}

void magvit_conv_destroy(magvit_conv* conv) { delete conv; }

magvit_status magvit_conv_run(const magvit_conv* conv, const magvit_conv_call* call,
                              magvit_pool* pool) {
  if (conv == nullptr || call == nullptr || pool == nullptr) return MAGVIT_NULL_POINTER;
  if (const auto status = magvit::CheckCall(conv->shape, *call); status != MAGVIT_OK) return status;
  try {
    magvit::Run(*conv, *call, pool->threads);
  } catch (const std::bad_alloc&) {
    return MAGVIT_OUT_OF_MEMORY;
  }
  return MAGVIT_OK;
}

const char* magvit_instruction_set() { return magvit::Kernels().name; }
