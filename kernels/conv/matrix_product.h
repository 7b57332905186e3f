// The inner loop of all convs: a few rows of inputs times two vectors of output channels.
//
// Inputs are [chunk][row][kLanes]; a chunk is kLanes consecutive input channels, so that the rows
// of a block are next to each other. Weights are [panel][input channel][kPanel]. Outputs are
// [panel][row][kPanel].
#ifndef MAGVIT_CONV_MATRIX_PRODUCT_H_
#define MAGVIT_CONV_MATRIX_PRODUCT_H_

#include <cstdint>

#include "conv/simd.h"

namespace magvit {
namespace MAGVIT_ISA {

constexpr int kPanel = 2 * kLanes;  // output channels

// A part of the sum: some chunks of inputs and their weights. Convs have one for each frame that
// the kernel covers.
struct Term {
  const float* inputs;   // of the first row, in the first chunk
  const float* weights;  // of the first chunk
};

// Output rows = sum over terms and chunks. `chunk_stride` is that of the inputs.
template <int kCount>
void MultiplyRows(const Term* terms, int term_count, int64_t chunks, int64_t chunk_stride,
                  float* output) {
  Lanes sums[kCount][2] = {};
  for (int i = 0; i < term_count; ++i) {
    const float* inputs = terms[i].inputs;
    const float* weights = terms[i].weights;
    for (int64_t chunk = 0; chunk < chunks; ++chunk, inputs += chunk_stride) {
      for (int k = 0; k < kLanes; ++k, weights += kPanel) {
        const Lanes first = Load(weights);
        const Lanes second = Load(weights + kLanes);
#pragma GCC unroll 14
        for (int row = 0; row < kCount; ++row) {
          const Lanes input = Broadcast(inputs[row * kLanes + k]);
          sums[row][0] += input * first;
          sums[row][1] += input * second;
        }
      }
    }
  }
#pragma GCC unroll 14
  for (int row = 0; row < kCount; ++row) {
    Store(sums[row][0], output + row * kPanel);
    Store(sums[row][1], output + row * kPanel + kLanes);
  }
}

using RowsFunction = void (*)(const Term*, int, int64_t, int64_t, float*);

template <int... kCounts>
struct RowsTable {
  static constexpr RowsFunction of[] = {nullptr, MultiplyRows<kCounts>...};
};

#if MAGVIT_ROWS == 14
using RowsFunctions = RowsTable<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#else
using RowsFunctions = RowsTable<1, 2, 3, 4, 5, 6>;
#endif

// Any number of rows, cut into blocks of nearly the same size. After a block of 14, a block of 2
// would only wait for its own sums.
inline void Multiply(const Term* terms, int term_count, int64_t chunks, int64_t chunk_stride,
                     int64_t rows, float* output) {
  const int64_t blocks = (rows + kRows - 1) / kRows;
  int64_t begin = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t end = rows * (block + 1) / blocks;
    Term moved[4];
    for (int i = 0; i < term_count; ++i) {
      moved[i] = {terms[i].inputs + begin * kLanes, terms[i].weights};
    }
    RowsFunctions::of[end - begin](moved, term_count, chunks, chunk_stride,
                                   output + begin * kPanel);
    begin = end;
  }
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_MATRIX_PRODUCT_H_
