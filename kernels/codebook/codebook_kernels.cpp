// The codebook search of one instruction set; compiled once for each. Positions are the lanes of
// vectors, so that the rows of the codebook are read as they lie.
#include "codebook/codebook_kernels.h"

#include "conv/row_product.h"

namespace magvit {
namespace MAGVIT_ISA {
namespace {

// Rows that stay in the second-level cache while all positions pass.
constexpr int64_t kBlockRows = 10 * kRows;

// The best two scores of a vector of positions.
struct BestTwoLanes {
  Lanes first, second;
  IntLanes row;
};

// Takes a row above all rows before.
inline void Take(BestTwoLanes& best, Lanes score, int32_t row) {
  const IntLanes is_nan = score != score;
  const IntLanes exceeds = (score > best.first) | (is_nan & (best.first == best.first));
  best.second = exceeds ? best.first : (score > best.second ? score : best.second);
  best.first = exceeds ? score : best.first;
  best.row = exceeds ? row - IntLanes{} : best.row;
}

// The positions whose first is number `position` of the task.
BestTwoLanes LoadBest(const SearchTask& task, int64_t position) {
  BestTwoLanes best;
  __builtin_memcpy(&best.first, task.first + position, sizeof(best.first));
  __builtin_memcpy(&best.second, task.second + position, sizeof(best.second));
  __builtin_memcpy(&best.row, task.row + position, sizeof(best.row));
  return best;
}

void StoreBest(const BestTwoLanes& best, const SearchTask& task, int64_t position) {
  __builtin_memcpy(task.first + position, &best.first, sizeof(best.first));
  __builtin_memcpy(task.second + position, &best.second, sizeof(best.second));
  __builtin_memcpy(task.row + position, &best.row, sizeof(best.row));
}

void Search(const SearchTask& task) {
  alignas(64) float scores[kBlockRows * kPanel];
  for (int64_t i = 0; i < task.panels * kPanel; ++i) {
    task.first[i] = task.second[i] = kNoScore;
    task.row[i] = kNoRow;
  }
  const int64_t channels = task.channels;
  for (int64_t begin = task.first_row; begin < task.last_row; begin += kBlockRows) {
    const int64_t rest = task.last_row - begin;
    const int64_t rows = rest < kBlockRows ? rest : kBlockRows;
    for (int64_t position = 0; position < task.panels * kPanel; position += kPanel) {
      MultiplyMatrix<2>({task.codebook + begin * channels, channels}, rows, channels,
                        {task.latents + position * channels, kPanel}, scores, kPanel);
      for (int64_t half = 0; half < kPanel; half += kLanes) {
        BestTwoLanes best = LoadBest(task, position + half);
        for (int64_t row = 0; row < rows; ++row) {
          Take(best, Load(scores + row * kPanel + half), static_cast<int32_t>(begin + row));
        }
        StoreBest(best, task, position + half);
      }
    }
  }
}

}  // namespace
}  // namespace MAGVIT_ISA

const CodebookKernels MAGVIT_KERNELS(CodebookKernels) = {MAGVIT_TEXT(MAGVIT_ISA),
                                                         MAGVIT_ISA::kPanel, MAGVIT_ISA::Search};

}  // namespace magvit
