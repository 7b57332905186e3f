// The attention of every instruction set: some queries against all keys and values.
#ifndef MAGVIT_ATTENTION_ATTENTION_KERNELS_H_
#define MAGVIT_ATTENTION_ATTENTION_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace magvit {

struct AttentionTask {
  const float* queries;  // [positions, pitch], as the values and the output
  const float* keys;     // [panel][channel][positions of a panel], zero beyond the last
  const float* values;
  float* output;
  int64_t positions, channels, pitch;
  int64_t first_query, last_query;
  float scale;     // of products, before the softmax
  float* scratch;  // `scratch_size` floats
};

struct AttentionKernels {
  const char* name;
  int64_t panel;    // positions
  int64_t queries;  // that a task should have
  size_t (*scratch_size)(int64_t positions);
  void (*attend)(const AttentionTask& task);
};

extern const AttentionKernels kPortableAttentionKernels;
#ifdef MAGVIT_HAS_X86_KERNELS
extern const AttentionKernels kAvx2AttentionKernels;
extern const AttentionKernels kAvx512AttentionKernels;
#endif

}  // namespace magvit

#endif  // MAGVIT_ATTENTION_ATTENTION_KERNELS_H_
