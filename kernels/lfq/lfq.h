// Look-up-free quantization (LFQ): the sign bits of C latent channels as one integer.
//
// Source: L. Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation"
// (MAGVIT-v2), section 3.1. Bit order as in TencentARC/SEED-Voken: channel 0 is the least
// significant bit.
#ifndef MAGVIT_LFQ_LFQ_H_
#define MAGVIT_LFQ_LFQ_H_

#include <cstdint>

#include "tensor/half.h"
#include "tensor/host_device.h"

namespace magvit {

// An id is a non-negative int32.
constexpr int kMaxLfqChannels = 31;

// 1 if the latent is above zero; zero, -0, NaN and negatives give 0.
MAGVIT_HOST_DEVICE int32_t LfqBit(float latent) { return latent > 0.0f ? 1 : 0; }

// The same without a conversion: positive halves are the bits from the smallest subnormal (0x0001)
// to infinity (0x7c00).
MAGVIT_HOST_DEVICE int32_t LfqBit(Half latent) {
  return static_cast<uint16_t>(latent.bits - 1) < 0x7c00 ? 1 : 0;
}

// The code that a bit of an id stands for.
MAGVIT_HOST_DEVICE float LfqSign(int32_t id, int channel) {
  return (id >> channel & 1) != 0 ? 1.0f : -1.0f;
}

// Bytes that hold the bits of one id.
MAGVIT_HOST_DEVICE int PackedBytes(int channels) { return (channels + 7) / 8; }

// Byte `index` of an id, least significant first.
MAGVIT_HOST_DEVICE uint8_t PackedByte(int32_t id, int index) {
  return static_cast<uint8_t>(id >> (8 * index));
}

}  // namespace magvit

#endif  // MAGVIT_LFQ_LFQ_H_
