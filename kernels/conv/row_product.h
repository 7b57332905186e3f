// Rows that lie anywhere times a panel of columns: a matrix product without packed inputs.
#ifndef MAGVIT_CONV_ROW_PRODUCT_H_
#define MAGVIT_CONV_ROW_PRODUCT_H_

#include <cstdint>

#include "conv/matrix_product.h"
#include "conv/simd.h"

namespace magvit {
namespace MAGVIT_ISA {

// Floats that lie `stride` apart, row by row.
struct Matrix {
  const float* values;
  int64_t stride;
};

// output[row] = sum over i of rows[row][i] * columns[i], of kVectors vectors of columns. Rows of
// `columns` and `output` are on vector boundaries.
template <int kVectors, int kCount>
void ProductOfRows(Matrix rows, int64_t length, Matrix columns, float* output, int64_t stride) {
  Lanes sums[kCount][kVectors] = {};
  for (int64_t i = 0; i < length; ++i) {
    Lanes column[kVectors];
    for (int v = 0; v < kVectors; ++v) column[v] = Load(columns.values + v * kLanes);
#pragma GCC unroll 14
    for (int row = 0; row < kCount; ++row) {
      const Lanes input = Broadcast(rows.values[row * rows.stride]);
      for (int v = 0; v < kVectors; ++v) sums[row][v] += input * column[v];
    }
    ++rows.values;
    columns.values += columns.stride;
  }
#pragma GCC unroll 14
  for (int row = 0; row < kCount; ++row) {
    for (int v = 0; v < kVectors; ++v) Store(sums[row][v], output + row * stride + v * kLanes);
  }
}

template <int kVectors, int... kCounts>
struct RowProducts {
  using Function = void (*)(Matrix, int64_t, Matrix, float*, int64_t);
  static constexpr Function of[] = {nullptr, ProductOfRows<kVectors, kCounts>...};
};

#if MAGVIT_ROWS == 14
template <int kVectors>
using AllRowProducts = RowProducts<kVectors, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#else
template <int kVectors>
using AllRowProducts = RowProducts<kVectors, 1, 2, 3, 4, 5, 6>;
#endif

// Any number of rows.
template <int kVectors>
void MultiplyMatrix(Matrix rows, int64_t count, int64_t length, Matrix columns, float* output,
                    int64_t stride) {
  const int64_t blocks = (count + kRows - 1) / kRows;
  int64_t begin = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t end = count * (block + 1) / blocks;
    AllRowProducts<kVectors>::of[end - begin]({rows.values + begin * rows.stride, rows.stride},
                                              length, columns, output + begin * stride, stride);
    begin = end;
  }
}

}  // namespace MAGVIT_ISA
}  // namespace magvit

#endif  // MAGVIT_CONV_ROW_PRODUCT_H_
