// Attention on the CPU: keys are laid out for the products once, then tasks take some queries each.
#include <algorithm>
#include <cmath>
#include <new>

#include "attention/attention_kernels.h"
#include "conv/aligned_floats.h"
#include "conv/instruction_set.h"
#include "conv/pool.h"
#include "magvit/operators.h"
#include "tensor/shape.h"

namespace magvit {
namespace {

const AttentionKernels& Kernels() {
  static const AttentionKernels& kernels = ChooseKernels(MAGVIT_ALL_KERNELS(AttentionKernels));
  return kernels;
}

magvit_status CheckMaps(const magvit_feature_map* const (&maps)[4]) {
  for (const magvit_feature_map* map : maps) {
    if (map == nullptr || map->values == nullptr) return MAGVIT_NULL_POINTER;
  }
  const magvit_feature_map& first = *maps[0];
  if (first.frames < 1 || first.height < 1 || first.width < 1 || first.channels < 1 ||
      first.channel_pitch < first.channels || first.channel_pitch % MAGVIT_CHANNEL_MULTIPLE != 0) {
    return MAGVIT_BAD_SHAPE;
  }
  for (const magvit_feature_map* map : maps) {
    if (map->first_frames != nullptr) return MAGVIT_BAD_BACKGROUND;
    if (map->frames != first.frames || map->height != first.height || map->width != first.width ||
        map->channels != first.channels || map->channel_pitch != first.channel_pitch) {
      return MAGVIT_BAD_SHAPE;
    }
  }
  return MAGVIT_OK;
}

void PackPanel(const magvit_feature_map& keys, int64_t positions, int64_t panel, int64_t size,
               float* packed) {
  const int64_t first = panel * size;
  float* target = packed + first * keys.channels;
  for (int64_t lane = 0; lane < size; ++lane) {
    const bool is_inside = first + lane < positions;
    const float* source = keys.values + (first + lane) * keys.channel_pitch;
    for (int64_t channel = 0; channel < keys.channels; ++channel) {
      target[channel * size + lane] = is_inside ? source[channel] : 0.0f;
    }
  }
}

void Run(const magvit_feature_map& queries, const magvit_feature_map& keys,
         const magvit_feature_map& values, const magvit_feature_map& output, ThreadPool& threads) {
  const AttentionKernels& kernels = Kernels();
  const int64_t positions = queries.frames * queries.height * queries.width;
  const int64_t panels = DivideUp(positions, kernels.panel);
  const Floats packed = Allocate(panels * kernels.panel * queries.channels);
  const auto lock = threads.Own();
  threads.ReserveScratch(kernels.scratch_size(positions) * sizeof(float));
  threads.Run(panels, [&](int64_t panel, int32_t) {
    PackPanel(keys, positions, panel, kernels.panel, packed.get());
  });
  threads.Run(DivideUp(positions, kernels.queries), [&](int64_t index, int32_t worker) {
    AttentionTask task = {};
    task.queries = queries.values;
    task.keys = packed.get();
    task.values = values.values;
    task.output = output.values;
    task.positions = positions;
    task.channels = queries.channels;
    task.pitch = queries.channel_pitch;
    task.first_query = index * kernels.queries;
    task.last_query = std::min(positions, task.first_query + kernels.queries);
    task.scale = 1.0f / std::sqrt(static_cast<float>(queries.channels));
    task.scratch = threads.Scratch(worker);
    kernels.attend(task);
  });
}

}  // namespace
}  // namespace magvit

magvit_status magvit_attention_run(const magvit_feature_map* queries,
                                   const magvit_feature_map* keys, const magvit_feature_map* values,
                                   const magvit_feature_map* output, magvit_pool* pool) {
  if (pool == nullptr) return MAGVIT_NULL_POINTER;
  const magvit_status status = magvit::CheckMaps({queries, keys, values, output});
  if (status != MAGVIT_OK) return status;
  try {
    magvit::Run(*queries, *keys, *values, *output, pool->threads);
  } catch (const std::bad_alloc&) {
    return MAGVIT_OUT_OF_MEMORY;
  }
  return MAGVIT_OK;
}
