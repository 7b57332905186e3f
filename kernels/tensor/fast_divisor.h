// Division by a number that is known only when a kernel is launched, as a multiplication and a
// shift. A GPU has no integer division, and its emulation would cost more than SiLU.
//
// Source: T. Granlund and P. Montgomery, "Division by Invariant Integers using Multiplication"
// (1994), figure 4.1.
#ifndef MAGVIT_TENSOR_FAST_DIVISOR_H_
#define MAGVIT_TENSOR_FAST_DIVISOR_H_

#include <cstdint>

#include "tensor/host_device.h"

namespace magvit {

// Divides numbers from 0 to 2^31 - 1 by one from 1 to 2^31.
class FastDivisor {
 public:
  explicit FastDivisor(uint32_t divisor) : divisor_(divisor) {
    while ((uint64_t{1} << shift_) < divisor) ++shift_;
    multiplier_ = static_cast<uint32_t>(
        (uint64_t{1} << 32) * ((uint64_t{1} << shift_) - divisor) / divisor + 1);
  }

  MAGVIT_HOST_DEVICE uint32_t Quotient(uint32_t number) const {
    const auto high = static_cast<uint32_t>((uint64_t{number} * multiplier_) >> 32);
    return (high + number) >> shift_;
  }

  MAGVIT_HOST_DEVICE uint32_t divisor() const { return divisor_; }

 private:
  uint32_t divisor_;
  uint32_t multiplier_ = 0;
  uint32_t shift_ = 0;
};

}  // namespace magvit

#endif  // MAGVIT_TENSOR_FAST_DIVISOR_H_
