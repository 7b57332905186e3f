// The CUDA operators of magvit-runtime as a C interface: all of an encoder except its convs, on
// feature maps in channels-last GPU memory.
//
// Nothing here allocates or waits, and only CUDA's facts about each kernel are remembered. Each
// function enqueues kernels on `stream` (a cudaStream_t, of a context that is current in the
// calling thread), so all of them can be captured in a CUDA graph. Any number of threads may call
// any of them at once. Results repeat bit for bit on one GPU model. Another model cuts the
// statistics differently, which changes their rounding. From compute capability 9.0 on, a kernel
// may begin while the one before it in the stream still ends (programmatic dependent launch). It
// waits for that end before it touches memory.
//
// Each returns 0 or the number of a cudaError, which magvit_cuda_error_message explains. Arguments
// that don't fit together give cudaErrorInvalidValue before anything is enqueued.
//
// Usage, for one residual block's first half, h = conv(silu(group_norm(x + residual))), where a
// library of convs reads x from `padded`:
//
//   struct magvit_cuda_map x = {
//       .data = device_x, .dtype = MAGVIT_FLOAT16, .batch = 1, .sizes = {17, 128, 128},
//       .channels = 128, .pitch = 128};
//   struct magvit_cuda_map padded = x;
//   padded.data = device_padded;       // all zero, except what magvit_cuda_apply writes
//   padded.before[0] = 2;              // the causal padding of a 3x3x3 conv
//   padded.before[1] = padded.before[2] = padded.after[1] = padded.after[2] = 1;
//   struct magvit_cuda_addends addends = {.residual = device_residual};
//   struct magvit_group_norm_options norm = {
//       .num_groups = 32, .epsilon = 1e-6f, .weight = device_weight, .bias = device_bias,
//       .activation = MAGVIT_SILU};
//   magvit_cuda_statistics(x, addends, x, &norm, workspace, arrivals, stream);  // x is the sum now
//   magvit_cuda_apply(x, no_addends, MAGVIT_FLOAT16, &norm, workspace, padded, stream);
#ifndef MAGVIT_CUDA_OPERATORS_H_
#define MAGVIT_CUDA_OPERATORS_H_

#include <stdint.h>

#include "magvit/operators.h"

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a struct or a signature below changes.
#define MAGVIT_CUDA_OPERATORS_ABI 2

// Feature maps [batch, sizes..., pitch] on the GPU, inside a border that may be empty.
struct magvit_cuda_map {
  void* data;  // where the border begins; a multiple of 32 bytes
  enum magvit_dtype dtype;
  int64_t batch;
  int64_t sizes[3];  // frames (1 for an image), height, width, without the border
  int64_t channels;
  int64_t pitch;  // elements from one position to the next: a multiple of 8, at least `channels`
  int64_t before[3], after[3];  // widths of the border, as a conv's padding
};

// Terms that are added to a map when it is read, in float32, before the sum is rounded once.
struct magvit_cuda_addends {
  const float* bias;     // [channels], or NULL
  const void* residual;  // of the sum's type, laid out as the map without a border; or NULL
};

// Pixels to a map's interior: byte / divisor + offset, in float32, then rounded to the map's type.
//
//   frames  uint8 [batch, sizes..., channels], channels at most 8
MAGVIT_EXPORT int32_t magvit_cuda_pixels(const uint8_t* frames, float divisor, float offset,
                                         struct magvit_cuda_map output, void* stream);

// Bytes of workspace (32-byte aligned, not initialised) that the statistics of a map take on any
// GPU.
MAGVIT_EXPORT int64_t magvit_cuda_workspace_bytes(struct magvit_cuda_map features,
                                                  int64_t num_groups);

// The first pass of GroupNorm. It reads the features and addends once and, if there are addends,
// writes their sum once. The workspace then holds one mean, scale and shift per channel, from the
// moments of the sum.
//
//   features  without a border
//   sum       as `features`, of the type that the sum is rounded to; may be `features` itself.
//             Without addends nothing is written, and it must be `features`
//   arrivals  uint32 [batch], all zero (cudaMemset it once): how many blocks are done with a
//   sample.
//             It is zero again after the pass, so one array serves all passes of a stream, one
//             after the other. Passes that may run at the same time need separate arrays, and
//             nothing else may write to it
MAGVIT_EXPORT int32_t magvit_cuda_statistics(struct magvit_cuda_map features,
                                             struct magvit_cuda_addends addends,
                                             struct magvit_cuda_map sum,
                                             const struct magvit_group_norm_options* options,
                                             void* workspace, uint32_t* arrivals, void* stream);

// The second pass: normalise, activate, round to the output's type, write to its interior. The
// border is left as it is.
//
//   features  without a border
//   addends   none with options: the statistics wrote the sum
//   sum_type  the type that the sum of features and addends is rounded to; the features' own type
//             if there are no addends
//   options   those of the statistics; NULL for no normalisation and no activation
//   workspace as magvit_cuda_statistics left it; not used without options
//   output    of the same batch, sizes, channels and pitch; may be `features` itself
MAGVIT_EXPORT int32_t magvit_cuda_apply(struct magvit_cuda_map features,
                                        struct magvit_cuda_addends addends,
                                        enum magvit_dtype sum_type,
                                        const struct magvit_group_norm_options* options,
                                        const void* workspace, struct magvit_cuda_map output,
                                        void* stream);

// Latents to token ids, as magvit_lfq, and to float32 in channels-first order.
//
//   latents         without a border, 1 to 31 channels
//   ids             int32 [batch, positions]
//   channels_first  float32 [batch, channels, positions], or NULL
MAGVIT_EXPORT int32_t magvit_cuda_lfq(struct magvit_cuda_map latents, int32_t* ids,
                                      float* channels_first, void* stream);

// CUDA's message for an error; never NULL, never freed.
MAGVIT_EXPORT const char* magvit_cuda_error_message(int32_t error);

// MAGVIT_CUDA_OPERATORS_ABI of the library, for comparison with that of this header.
MAGVIT_EXPORT int32_t magvit_cuda_operators_abi(void);

#ifdef __cplusplus
}
#endif

#endif  // MAGVIT_CUDA_OPERATORS_H_
