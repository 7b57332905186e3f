// The CUDA operators of magvit-runtime as a C interface: all of an encoder and of a decoder on
// feature maps in channels-last GPU memory, except most of their convs.
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
#define MAGVIT_CUDA_OPERATORS_ABI 5

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

// The channels of a map of unfolded pixels, with padding, are at most this many.
#define MAGVIT_MOST_UNFOLDED_CHANNELS 128

// The frames that a conv reads, and its windows over them.
struct magvit_cuda_window {
  int64_t frame_sizes[3];  // frames (1 for an image), height, width
  int64_t pixel_channels;
  int64_t kernel[3], stride[3], pads_before[3], pads_after[3];  // in time, height and width
};

// Pixels to a map that a conv with a kernel of 1 reads in place of a conv over windows: each
// position has the normalised pixels of one window, zeros where it reaches into the padding, and
// zeros in the padding channels.
//
//   frames  uint8 [batch, frame_sizes..., pixel_channels]
//   output  without a border, of the sizes of the conv's output; its channels are [kernel...,
//           pixel_channels], at most MAGVIT_MOST_UNFOLDED_CHANNELS
MAGVIT_EXPORT int32_t magvit_cuda_unfolded_pixels(const uint8_t* frames, float divisor,
                                                  float offset, struct magvit_cuda_window window,
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

// Whether magvit_cuda_conv computes a conv on the current GPU: 1 or 0.
MAGVIT_EXPORT int32_t magvit_cuda_conv_fits(struct magvit_cuda_map input,
                                            struct magvit_cuda_map output, int64_t kernel_frames);

// A causal conv on tensor cores with its addends, in half precision summed in float32 and rounded
// once: output = conv(input) + bias + residual. With options, the first pass of the output's
// GroupNorm too. For compute capability 9.0, and maps of whole tiles: height a multiple of 32,
// width of 8, input channels of 64, output channels of 128.
//
// The kernel is [kernel_frames, 3, 3], at most 3 frames, with stride 1. Zeros stand for the
// kernel_frames - 1 frames before the clip, and for one position on each side of a frame.
//
//   input     half, without a border
//   weight    half [output channels, kernel_frames, 3, 3, input channels], 32-byte aligned
//   addends   the residual is half, and may be the output
//   output    half, without a border; may not be the input
//   options   NULL, or of at most 64 channels a group, a power of two
//   workspace with options: magvit_cuda_workspace_bytes of the output, for magvit_cuda_apply
MAGVIT_EXPORT int32_t magvit_cuda_conv(struct magvit_cuda_map input, const void* weight,
                                       int64_t kernel_frames, struct magvit_cuda_addends addends,
                                       struct magvit_cuda_map output,
                                       const struct magvit_group_norm_options* options,
                                       void* workspace, void* stream);

// A map without a border to float32 in channels-first order, [batch, channels, positions].
MAGVIT_EXPORT int32_t magvit_cuda_channels_first(struct magvit_cuda_map features, float* output,
                                                 void* stream);

// Latents to token ids, as magvit_lfq.
//
//   latents  without a border, 1 to 31 channels
//   ids      int32 [batch, positions]
MAGVIT_EXPORT int32_t magvit_cuda_lfq(struct magvit_cuda_map latents, int32_t* ids, void* stream);

// Bytes of workspace (32-byte aligned, not initialised) that the search of any codebook takes.
MAGVIT_EXPORT int64_t magvit_cuda_codebook_workspace_bytes(struct magvit_cuda_map latents);

// Latents to token ids, as magvit_codebook_argmax.
//
//   latents   without a border
//   codebook  float [rows, channels]
//   ids       int32 [batch, positions]
//   margins   float [batch, positions], or NULL
MAGVIT_EXPORT int32_t magvit_cuda_codebook_argmax(struct magvit_cuda_map latents,
                                                  const float* codebook, int64_t rows, int32_t* ids,
                                                  float* margins, void* workspace, void* stream);

// Token ids to a map's interior: channel i is 1 where bit i is set, and -1 elsewhere.
//
//   ids  int32 [batch, sizes...]
MAGVIT_EXPORT int32_t magvit_cuda_lfq_codes(const int32_t* ids, struct magvit_cuda_map output,
                                            void* stream);

// Token ids to a map's interior: the rows of a codebook that they number. An id that is no row
// reads nothing and gives NaN.
//
//   codebook  float [rows, pitch of the output], 32-byte aligned; padding is not read
MAGVIT_EXPORT int32_t magvit_cuda_codebook_rows(const int32_t* ids, const float* codebook,
                                                int64_t rows, struct magvit_cuda_map output,
                                                void* stream);

// A statistic of each channel of a map, and a linear layer of these: vectors = weight s + bias.
struct magvit_cuda_channel_statistic {
  int32_t is_spread;    // 1: s = sqrt(unbiased variance + epsilon); 0: s = the mean
  float epsilon;        // not negative
  const float* weight;  // [outputs, channels of the map]; NULL leaves this one out
  const float* bias;    // [outputs]
  float* vectors;       // [batch, outputs]
};

// Two of these, for a GroupNorm whose weight and bias are each sample's own. The variance of a
// single position is 0.
//
//   map  without a border, at most 256 channels
MAGVIT_EXPORT int32_t magvit_cuda_channel_vectors(struct magvit_cuda_map map,
                                                  struct magvit_cuda_channel_statistic scale,
                                                  struct magvit_cuda_channel_statistic shift,
                                                  int64_t outputs, void* stream);

// Blocks of positions out of channels, as magvit_depth_to_space_run, plus a bias before that.
//
//   features  without a border
//   bias      float [channels of the features], or NULL; fastest at a multiple of 32 bytes
//   block     frames, height and width of a block
MAGVIT_EXPORT int32_t magvit_cuda_depth_to_space(struct magvit_cuda_map features, const float* bias,
                                                 const int64_t* block,
                                                 struct magvit_cuda_map output, void* stream);

// Each position as a block of equal ones.
//
//   features  without a border
//   output    `height` times as high and `width` times as wide; of the same batch, frames, channels
//             and pitch
MAGVIT_EXPORT int32_t magvit_cuda_repeat(struct magvit_cuda_map features, int64_t height,
                                         int64_t width, struct magvit_cuda_map output,
                                         void* stream);

// What is added to the maps of an attention; each float [channels], or NULL.
struct magvit_cuda_attention_biases {
  const float* queries;
  const float* keys;
  const float* values;
};

// Bytes of workspace (32-byte aligned, not initialised) of an attention: the products, 4 bytes
// each.
MAGVIT_EXPORT int64_t magvit_cuda_attention_workspace_bytes(struct magvit_cuda_map queries);

// Attention with one head over all positions of a sample, as magvit_attention_run. The four maps
// are alike and without a border; the first three are of one type. Sums, products and the softmax
// are float32.
MAGVIT_EXPORT int32_t magvit_cuda_attention(struct magvit_cuda_map queries,
                                            struct magvit_cuda_map keys,
                                            struct magvit_cuda_map values,
                                            struct magvit_cuda_attention_biases biases,
                                            struct magvit_cuda_map output, void* workspace,
                                            void* stream);

// floor((clip(x, low, high) + offset) * scale + rounding), in float32, and at most a byte.
struct magvit_cuda_rounding {
  float low, high, offset, scale, rounding;
};

// A map to bytes. A NaN counts as the lowest value.
//
//   features  without a border, channels at most 8
//   bias      float [channels], added first; or NULL
//   frames    uint8 [batch, sizes..., channels]
MAGVIT_EXPORT int32_t magvit_cuda_bytes(struct magvit_cuda_map features, const float* bias,
                                        struct magvit_cuda_rounding rounding, uint8_t* frames,
                                        void* stream);

// CUDA's message for an error; never NULL, never freed.
MAGVIT_EXPORT const char* magvit_cuda_error_message(int32_t error);

// MAGVIT_CUDA_OPERATORS_ABI of the library, for comparison with that of this header.
MAGVIT_EXPORT int32_t magvit_cuda_operators_abi(void);

#ifdef __cplusplus
}
#endif

#endif  // MAGVIT_CUDA_OPERATORS_H_
