// Reads input pixels through the normalisation, kLanes channels at a time.
#ifndef MAGVIT_CONV_INPUT_READER_H_
#define MAGVIT_CONV_INPUT_READER_H_

#include <cstdint>

#include "conv/simd.h"
#include "magvit/operators.h"

namespace magvit {
namespace MAGVIT_ISA {

// Zero padding is not normalised: it stands for zeros after the activation.
struct PlainReader {
  explicit PlainReader(const magvit_normalization*) {}
  void MoveTo(int64_t) {}
  Lanes operator()(Lanes x) const { return x; }
  float One(float x, int64_t) const { return x; }
};

template <magvit_activation kActivation>
class NormalizingReader {
 public:
  explicit NormalizingReader(const magvit_normalization* normalization)
      : normalization_(*normalization) {}

  void MoveTo(int64_t channel) {
    mean_ = Load(normalization_.mean + channel);
    scale_ = Load(normalization_.scale + channel);
    shift_ = Load(normalization_.shift + channel);
  }

  Lanes operator()(Lanes x) const {
    const Lanes y = (x - mean_) * scale_ + shift_;
    return kActivation == MAGVIT_SILU ? SiLU(y) : y;
  }

  float One(float x, int64_t channel) const {
    const Lanes y = Broadcast((x - normalization_.mean[channel]) * normalization_.scale[channel] +
                              normalization_.shift[channel]);
    return kActivation == MAGVIT_SILU ? SiLU(y)[0] : y[0];
  }

 private:
  const magvit_normalization& normalization_;
  Lanes mean_, scale_, shift_;
};

// Calls body(reader) with the reader for a normalisation, which may be null.
template <typename Body>
void WithReader(const magvit_normalization* normalization, const Body& body) {
  if (normalization == nullptr) {
    body(PlainReader(normalization));
  } else if (normalization->activation == MAGVIT_SILU) {
    body(NormalizingReader<MAGVIT_SILU>(normalization));
  } else {
    body(NormalizingReader<MAGVIT_NO_ACTIVATION>(normalization));
  }
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_INPUT_READER_H_
