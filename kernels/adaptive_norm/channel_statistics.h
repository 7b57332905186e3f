// The spread of a channel.
#ifndef MAGVIT_ADAPTIVE_NORM_CHANNEL_STATISTICS_H_
#define MAGVIT_ADAPTIVE_NORM_CHANNEL_STATISTICS_H_

#include <cmath>

#include "group_norm_silu/statistics.h"
#include "tensor/host_device.h"

namespace magvit {

// The square root of the unbiased variance plus epsilon; the variance of a single element is 0.
MAGVIT_HOST_DEVICE float Spread(const Moments& channel, float epsilon) {
  const float freedom = channel.count > 1.0f ? channel.count - 1.0f : 1.0f;
  return sqrtf(channel.deviations / freedom + epsilon);
}

}  // namespace magvit

#endif  // MAGVIT_ADAPTIVE_NORM_CHANNEL_STATISTICS_H_
