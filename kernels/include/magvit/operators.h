// The CPU operators of magvit-runtime as a C interface: LFQ, the search of a codebook, GroupNorm
// (with or without SiLU), and the native backend's: fused convs, attention, adaptive norms and
// depth to space.
//
// Thread safety: every function here is reentrant and keeps no state between calls. Any number of
// threads may call any of them at once, as long as no output of one call overlaps an input or
// output of another. `threads` is the number of threads that one call may use: 1 runs on the
// calling thread only, 0 means one thread per CPU that this process may run on. Results do not
// depend on the number of threads, bit for bit.
//
// Usage, for the latents of one 17x128x128 clip, [N=1, C=18, 5, 16, 16] float:
//
//   struct magvit_shape shape = {
//       .batch = 1, .channels = 18, .positions = 5 * 16 * 16,
//       .layout = MAGVIT_CHANNELS_FIRST};
//   int32_t ids[5 * 16 * 16];
//   enum magvit_status status = magvit_lfq(latents, MAGVIT_FLOAT32, shape, ids, NULL, 0);
//   if (status != MAGVIT_OK) fprintf(stderr, "%s\n", magvit_status_message(status));
//
// and for GroupNorm(32) + SiLU of a feature map, [N=1, C=128, 17, 128, 128] half, in place:
//
//   struct magvit_shape shape = {
//       .batch = 1, .channels = 128, .positions = 17 * 128 * 128,
//       .layout = MAGVIT_CHANNELS_FIRST};
//   struct magvit_group_norm_options options = {
//       .num_groups = 32, .epsilon = 1e-6f, .weight = weight, .bias = bias,
//       .activation = MAGVIT_SILU};
//   status = magvit_group_norm(features, MAGVIT_FLOAT16, shape, &options, features, 0);
#ifndef MAGVIT_OPERATORS_H_
#define MAGVIT_OPERATORS_H_

#include <stdint.h>

#if defined(__GNUC__)
#define MAGVIT_EXPORT __attribute__((visibility("default")))
#else
#define MAGVIT_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Raised whenever a struct or a signature below changes.
#define MAGVIT_OPERATORS_ABI 4

enum magvit_status {
  MAGVIT_OK = 0,
  MAGVIT_NULL_POINTER = 1,
  MAGVIT_BAD_SHAPE = 2,
  MAGVIT_BAD_CHANNELS = 3,
  MAGVIT_BAD_GROUPS = 4,
  MAGVIT_BAD_EPSILON = 5,
  MAGVIT_BAD_ENUM = 6,
  MAGVIT_OUT_OF_MEMORY = 7,
  MAGVIT_BAD_CONV = 8,
  MAGVIT_BAD_BACKGROUND = 9,
  MAGVIT_BAD_ROWS = 10,
};

enum magvit_dtype {
  MAGVIT_FLOAT32 = 0,  // IEEE binary32
  MAGVIT_FLOAT16 = 1,  // IEEE binary16
};

enum magvit_layout {
  MAGVIT_CHANNELS_FIRST = 0,  // [N, C, positions]: NCHW, NCDHW
  MAGVIT_CHANNELS_LAST = 1,   // [N, positions, channel_pitch]: NHWC, NDHWC, TensorRT's HWC8, DHWC8
};

enum magvit_activation {
  MAGVIT_NO_ACTIVATION = 0,
  MAGVIT_SILU = 1,  // y * sigmoid(y)
};

// A tensor [N, C, ...] with all dimensions after C as one.
struct magvit_shape {
  int64_t batch;      // N
  int64_t channels;   // C
  int64_t positions;  // product of the dimensions after C
  enum magvit_layout layout;
  // Elements from one position to the next in MAGVIT_CHANNELS_LAST; 0 means `channels` (no
  // padding). Padding channels are never read and come out as zero. Unused in CHANNELS_FIRST.
  int64_t channel_pitch;
};

struct magvit_group_norm_options {
  int64_t num_groups;         // divides C
  float epsilon;              // added to the variance; finite, not negative
  const float* weight;        // [C] or [N, C]; NULL with `bias` means no affine
  const float* bias;          // as `weight`
  int32_t affine_per_sample;  // 0: weight and bias are [C]; 1: [N, C]
  enum magvit_activation activation;
};

// Look-up-free quantization: token ids from latents. Bit i of an id is 1 where channel i > 0,
// channel 0 being the least significant; zero, -0 and NaN give 0.
//
//   latents  `shape`, 1 to 31 channels
//   ids      int32 [N, positions]
//   packed   optional (may be NULL): uint8 [N, positions, ceil(C / 8)], the ids' low bytes,
//            least significant first
MAGVIT_EXPORT enum magvit_status magvit_lfq(const void* latents, enum magvit_dtype dtype,
                                            struct magvit_shape shape, int32_t* ids,
                                            uint8_t* packed, int32_t threads);

// The row of a codebook that fits each position best: the largest dot product, in float32. Of equal
// ones the lowest row counts; a NaN is above all others, as in NumPy's argmax.
//
//   latents   `shape`, any number of channels
//   codebook  float [rows, C], of fewer than 2^31 - 1 rows
//   ids       int32 [N, positions]: numbers of rows
//   margins   optional (may be NULL): float [N, positions], the largest product less the second
//             largest; 0 where two rows are equally good, NaN where a product is
MAGVIT_EXPORT enum magvit_status magvit_codebook_argmax(
    const void* latents, enum magvit_dtype dtype, struct magvit_shape shape, const float* codebook,
    int64_t rows, int32_t* ids, float* margins, int32_t threads);

// GroupNorm over (C / num_groups, positions) of each sample, then the activation. Statistics are
// hierarchical in fp32: the error against fp64 stays near 1e-7 for any number of positions.
// `output` has the type and shape of `input` and may be the same memory.
MAGVIT_EXPORT enum magvit_status magvit_group_norm(const void* input, enum magvit_dtype dtype,
                                                   struct magvit_shape shape,
                                                   const struct magvit_group_norm_options* options,
                                                   void* output, int32_t threads);

// Threads and their scratch memory, for any number of convs. `threads` as above, the caller's
// included. One call at a time uses a pool; others wait for it. NULL if memory is short.
typedef struct magvit_pool magvit_pool;
MAGVIT_EXPORT magvit_pool* magvit_pool_create(int32_t threads);
MAGVIT_EXPORT int32_t magvit_pool_threads(const magvit_pool* pool);
MAGVIT_EXPORT void magvit_pool_destroy(magvit_pool* pool);

// A feature map of one clip, float [frames, height, width, channel_pitch], on a 64-byte boundary.
// The pitch is a multiple of MAGVIT_CHANNEL_MULTIPLE; padding channels are zero. Images have one
// frame.
//
// If a clip is largely one constant colour, values that depend on this colour alone depend only on
// the frame and on the distance to the borders. A map can keep these values once. `first_frames`
// ([ceil(height / 4), ceil(width / 4)]) is the frame from which on each 4x4 tile has its own values
// in `values`; `frames` means never. Before that frame, a pixel has the value of `background`,
// float [frames, background_height, background_width, channel_pitch]: the map of an all-background
// clip that is just large enough to have a middle. A pixel near a border has the background pixel
// at the same distance to it; all others have the middle. first_frames = NULL: every value is in
// `values`.
#define MAGVIT_CHANNEL_MULTIPLE 16
struct magvit_feature_map {
  float* values;
  int64_t frames, height, width, channels, channel_pitch;
  const int16_t* first_frames;
  float* background;
  int64_t background_height, background_width;
};

// Normalisation of a map as it is read: activation((x - mean) * scale + shift), each
// float [channel_pitch].
struct magvit_normalization {
  const float* mean;
  const float* scale;
  const float* shift;
  enum magvit_activation activation;
};

// A conv over frames, height and width with zero padding, its weights laid out for this CPU.
// 3x3 convs of stride 1 run as Winograd's F(4x4, 3x3) in space; the others as a matrix product.
typedef struct magvit_conv magvit_conv;
struct magvit_conv_options {
  int64_t in_channels, out_channels;
  int64_t kernel[3];       // frames, height, width
  int64_t stride[3];       // positive
  int64_t pads_before[3];  // not negative
  const float* weights;    // [out_channels, in_channels, kernel...]; copied
  const float* bias;       // [out_channels], or NULL; copied
};
MAGVIT_EXPORT enum magvit_status magvit_conv_create(const struct magvit_conv_options* options,
                                                    magvit_pool* pool, magvit_conv** conv);
MAGVIT_EXPORT void magvit_conv_destroy(magvit_conv* conv);

// output = conv(normalization(input)) + bias + residual, at the output's own tiles and in its
// background. The padding at the end follows from the output's sizes.
struct magvit_conv_call {
  const struct magvit_feature_map* input;
  const struct magvit_normalization* normalization;  // or NULL
  // Of the output's shape, or NULL. Its `values` may be those of the output.
  const struct magvit_feature_map* residual;
  struct magvit_feature_map* output;
  // If `moments` is wanted: how many pixels of the map each background pixel stands for, float
  // [frames, background_height, background_width].
  const float* background_counts;
  int64_t groups;   // divides the output's channels
  double* moments;  // [groups, 2]: mean and variance of each group of output channels, or NULL
};
MAGVIT_EXPORT enum magvit_status magvit_conv_run(const magvit_conv* conv,
                                                 const struct magvit_conv_call* call,
                                                 magvit_pool* pool);

// Attention with one head over all positions of a map: at each, the values' sum by the softmax of
// its query's products with all keys, over the square root of the number of channels. The four maps
// are of one shape and one channel pitch, and have no background.
MAGVIT_EXPORT enum magvit_status magvit_attention_run(const struct magvit_feature_map* queries,
                                                      const struct magvit_feature_map* keys,
                                                      const struct magvit_feature_map* values,
                                                      const struct magvit_feature_map* output,
                                                      magvit_pool* pool);

// GroupNorm of a map in place, with a scale and a shift for each channel of its clip:
// (x - mean) / sqrt(variance + epsilon) * scale + shift, and the moments of that.
struct magvit_adaptive_norm_call {
  const struct magvit_feature_map* map;  // without a background; padding channels stay as they are
  int64_t groups;                        // divides the map's channels
  double epsilon;                        // added to the variance
  const float* scale;                    // [channels]
  const float* shift;                    // [channels]
  double* moments;  // [groups, 2]: mean and variance of each group of the result, or NULL
};
MAGVIT_EXPORT enum magvit_status magvit_adaptive_norm_run(
    const struct magvit_adaptive_norm_call* call, magvit_pool* pool);

// Blocks of positions out of channels, which are laid out (frame, row, column of the block, C). The
// output has (frames - 1) * block[0] + 1 frames: of the first frame's block only the first is kept.
// Neither map has a background.
MAGVIT_EXPORT enum magvit_status magvit_depth_to_space_run(const struct magvit_feature_map* input,
                                                           const int64_t* block,
                                                           const struct magvit_feature_map* output,
                                                           magvit_pool* pool);

// "avx512", "avx2" or "portable": the instruction set that convs use, which is the fastest that
// this CPU has, or that which the environment variable MAGVIT_INSTRUCTION_SET names.
MAGVIT_EXPORT const char* magvit_instruction_set(void);

// One plain sentence; never NULL, never freed.
MAGVIT_EXPORT const char* magvit_status_message(enum magvit_status status);

// MAGVIT_OPERATORS_ABI of the library, for comparison with that of this header.
MAGVIT_EXPORT int32_t magvit_operators_abi(void);

#ifdef __cplusplus
}
#endif

#endif  // MAGVIT_OPERATORS_H_
