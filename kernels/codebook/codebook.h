// Which row of a codebook fits a latent best: the rules that all devices share.
//
// Source: F. Shi et al., "Taming Scalable Visual Tokenizer for Autoregressive Image Generation"
// (IBQ), 2024; as released in TencentARC/SEED-Voken: the largest dot product, without a norm.
//
// Products are float, whatever the type of the latents. A sum of C of them is off by at most
// C * 2^-24 * |latent| * |row|, so an id is that of exact arithmetic unless its margin is below
// twice that, with the longest row's length.
#ifndef MAGVIT_CODEBOOK_CODEBOOK_H_
#define MAGVIT_CODEBOOK_CODEBOOK_H_

#include <cstdint>

#include "tensor/host_device.h"

namespace magvit {

// Row of a search that has found no score above -infinity yet.
constexpr int32_t kNoRow = 0x7fffffff;
constexpr float kNoScore = -__builtin_inff();

// The best score so far and its row, and the second best score. Of equal scores the lowest row is
// the best; a NaN is above all others, and the first one stays.
struct BestTwo {
  float first, second;
  int32_t row;
};

MAGVIT_HOST_DEVICE BestTwo NothingFound() { return {kNoScore, kNoScore, kNoRow}; }

MAGVIT_HOST_DEVICE bool IsNan(float value) { return value != value; }

// Whether a score takes the place of another of a lower row.
MAGVIT_HOST_DEVICE bool Exceeds(float score, float other) {
  return score > other || (IsNan(score) && !IsNan(other));
}

// Takes the score of a row above all rows before.
MAGVIT_HOST_DEVICE void Take(BestTwo& best, float score, int32_t row) {
  if (Exceeds(score, best.first)) {
    best = {score, best.first, row};
  } else if (score > best.second) {
    best.second = score;
  }
}

// Of two searches of different rows.
MAGVIT_HOST_DEVICE BestTwo Merge(const BestTwo& a, const BestTwo& b) {
  const bool is_equal = a.first == b.first || (IsNan(a.first) && IsNan(b.first));
  const bool b_wins = Exceeds(b.first, a.first) || (is_equal && b.row < a.row);
  const BestTwo& best = b_wins ? b : a;
  const BestTwo& other = b_wins ? a : b;
  return {best.first, best.second > other.first ? best.second : other.first, best.row};
}

// The id; where all scores are -infinity the first is as good as any.
MAGVIT_HOST_DEVICE int32_t IdOf(const BestTwo& found) {
  return found.row == kNoRow ? 0 : found.row;
}

MAGVIT_HOST_DEVICE float MarginOf(const BestTwo& found) { return found.first - found.second; }

}  // namespace magvit

#endif  // MAGVIT_CODEBOOK_CODEBOOK_H_
