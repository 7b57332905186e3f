// The codebook search on the CPU, for both layouts: tasks are ranges of rows, each for some
// positions.
#include <algorithm>
#include <new>
#include <vector>

#include "codebook/codebook_kernels.h"
#include "conv/aligned_floats.h"
#include "conv/instruction_set.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/parallel_for.h"
#include "tensor/shape.h"

namespace magvit {
namespace {

// Of one task. A task's rows are read once for all its positions, whose latents stay in the
// second-level cache with them.
constexpr int64_t kTaskPositions = 256;
constexpr int64_t kTaskRows = 1024;

const CodebookKernels& Kernels() {
  static const CodebookKernels& kernels = ChooseKernels(MAGVIT_ALL_KERNELS(CodebookKernels));
  return kernels;
}

// Latents as [panel][channel][positions of a panel], zero beyond the last position.
template <typename T>
Floats PackLatents(const T* latents, const magvit_shape& shape, int64_t panel) {
  const int64_t total = shape.batch * shape.positions;
  Floats packed = AllocateZeros(DivideUp(total, panel) * panel * shape.channels);
  const bool is_first = shape.layout == MAGVIT_CHANNELS_FIRST;
  const int64_t step = is_first ? shape.positions : 1;
  for (int64_t i = 0; i < total; ++i) {
    const int64_t sample = i / shape.positions, position = i % shape.positions;
    const T* source = is_first ? latents + sample * shape.channels * shape.positions + position
                               : latents + i * ChannelPitch(shape);
    float* target = packed.get() + i / panel * panel * shape.channels + i % panel;
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      target[channel * panel] = ToFloat(source[channel * step]);
    }
  }
  return packed;
}

void Search(const Floats& latents, const magvit_shape& shape, const float* codebook, int64_t rows,
            int32_t* ids, float* margins, int32_t threads) {
  const CodebookKernels& kernels = Kernels();
  const int64_t total = shape.batch * shape.positions;
  const int64_t panels = DivideUp(total, kernels.panel);
  const int64_t task_panels = kTaskPositions / kernels.panel;
  const int64_t groups = DivideUp(panels, task_panels);
  const int64_t ranges = DivideUp(rows, kTaskRows);
  const int64_t positions = panels * kernels.panel;
  std::vector<float> first(ranges * positions), second(ranges * positions);
  std::vector<int32_t> row(ranges * positions);
  ParallelFor(groups * ranges, threads, [&](int64_t index) {
    const int64_t range = index / groups, first_panel = index % groups * task_panels;
    SearchTask task = {};
    task.codebook = codebook;
    task.channels = shape.channels;
    task.first_row = range * kTaskRows;
    task.last_row = std::min(rows, task.first_row + kTaskRows);
    task.latents = latents.get() + first_panel * kernels.panel * shape.channels;
    task.panels = std::min(task_panels, panels - first_panel);
    const int64_t place = range * positions + first_panel * kernels.panel;
    task.first = first.data() + place;
    task.second = second.data() + place;
    task.row = row.data() + place;
    kernels.search(task);
  });
  for (int64_t i = 0; i < total; ++i) {
    BestTwo best = NothingFound();
    for (int64_t place = i; place < ranges * positions; place += positions) {
      best = Merge(best, {first[place], second[place], row[place]});
    }
    ids[i] = IdOf(best);
    if (margins != nullptr) margins[i] = MarginOf(best);
  }
}

}  // namespace
}  // namespace magvit

magvit_status magvit_codebook_argmax(const void* latents, magvit_dtype dtype, magvit_shape shape,
                                     const float* codebook, int64_t rows, int32_t* ids,
                                     float* margins, int32_t threads) {
  const magvit_status status = magvit::CheckTensor(dtype, shape);
  if (status != MAGVIT_OK) return status;
  if (rows < 1 || rows >= magvit::kNoRow) return MAGVIT_BAD_ROWS;
  if (magvit::IsEmpty(shape)) return MAGVIT_OK;
  if (latents == nullptr || codebook == nullptr || ids == nullptr) return MAGVIT_NULL_POINTER;
  try {
    const int64_t panel = magvit::Kernels().panel;
    const magvit::Floats packed =
        dtype == MAGVIT_FLOAT32
            ? magvit::PackLatents(static_cast<const float*>(latents), shape, panel)
            : magvit::PackLatents(static_cast<const magvit::Half*>(latents), shape, panel);
    magvit::Search(packed, shape, codebook, rows, ids, margins, threads);
  } catch (const std::bad_alloc&) {
    return MAGVIT_OUT_OF_MEMORY;
  }
  return MAGVIT_OK;
}
