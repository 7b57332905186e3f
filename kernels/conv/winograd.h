// The transforms of Winograd's F(4x4, 3x3): 4x4 outputs of a 3x3 conv from 6x6 inputs by 36
// products instead of 144.
//
// Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
#ifndef MAGVIT_CONV_WINOGRAD_H_
#define MAGVIT_CONV_WINOGRAD_H_

#include "conv/simd.h"

namespace magvit {
namespace MAGVIT_ISA {

constexpr int kWindow = 6;  // input pixels of a tile's height and width
constexpr int kProducts = kWindow * kWindow;
constexpr int kMaxFrameTaps = 3;  // kernel frames that the Winograd form takes

// One dimension of the inputs' transform.
inline void TransformInputs(const Lanes (&d)[kWindow], Lanes (&v)[kWindow]) {
  const Lanes even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
  const Lanes near = d[4] - d[2], far = 2.0f * (d[3] - d[1]);
  v[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = near + far;
  v[4] = near - far;
  v[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

// One dimension of the outputs' transform.
inline void TransformOutputs(const Lanes (&m)[kWindow], Lanes (&y)[4]) {
  const Lanes sum = m[1] + m[2], difference = m[1] - m[2];
  const Lanes far_sum = m[3] + m[4], far_difference = m[3] - m[4];
  y[0] = m[0] + sum + far_sum;
  y[1] = difference + 2.0f * far_difference;
  y[2] = sum + 4.0f * far_sum;
  y[3] = difference + 8.0f * far_difference + m[5];
}

// One dimension of the weights' transform, once at load and so in float64.
inline void TransformWeights(const double (&g)[3], double (&u)[kWindow]) {
  const double ends = g[0] + g[2], far_ends = g[0] + 4 * g[2];
  u[0] = g[0] / 4;
  u[1] = -(ends + g[1]) / 6;
  u[2] = -(ends - g[1]) / 6;
  u[3] = (far_ends + 2 * g[1]) / 24;
  u[4] = (far_ends - 2 * g[1]) / 24;
  u[5] = g[2];
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_WINOGRAD_H_
