// The attention of one instruction set; compiled once for each. Scores are held for a few queries
// at a time.
#include "attention/attention_kernels.h"

#include "conv/row_product.h"

namespace magvit {
namespace MAGVIT_ISA {
namespace {

constexpr int64_t kQueries = 2 * kRows;

int64_t PaddedPositions(int64_t positions) { return (positions + kPanel - 1) / kPanel * kPanel; }

size_t ScratchSize(int64_t positions) { return kQueries * PaddedPositions(positions); }

float LargestLane(Lanes x) {
  float largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// A row of products to weights whose sum is 1; what lies beyond the last position becomes 0.
void Softmax(float* row, int64_t positions, float scale) {
  const int64_t padded = PaddedPositions(positions);
  // Products with padding are 0, which may be above all others: they don't count.
  for (int64_t i = positions; i < padded; ++i) row[i] = row[0];
  Lanes largest = Load(row);
  for (int64_t i = kLanes; i < padded; i += kLanes) {
    const Lanes products = Load(row + i);
    largest = products > largest ? products : largest;
  }
  const Lanes most = Broadcast(LargestLane(largest));
  for (int64_t i = 0; i < padded; i += kLanes) Store(Exp((Load(row + i) - most) * scale), row + i);
  for (int64_t i = positions; i < padded; ++i) row[i] = 0.0f;
  Lanes sums = {};
  for (int64_t i = 0; i < padded; i += kLanes) sums += Load(row + i);
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += sums[i];
  for (int64_t i = 0; i < padded; i += kLanes) Store(Load(row + i) / sum, row + i);
}

void Attend(const AttentionTask& task) {
  const int64_t padded = PaddedPositions(task.positions);
  const int64_t queries = task.last_query - task.first_query;
  const Matrix rows = {task.queries + task.first_query * task.pitch, task.pitch};
  for (int64_t position = 0; position < padded; position += kPanel) {
    MultiplyMatrix<2>(rows, queries, task.channels, {task.keys + position * task.channels, kPanel},
                      task.scratch + position, padded);
  }
  for (int64_t query = 0; query < queries; ++query) {
    Softmax(task.scratch + query * padded, task.positions, task.scale);
  }
  float* output = task.output + task.first_query * task.pitch;
  for (int64_t channel = 0; channel < task.pitch; channel += kPanel) {
    // The pitch is a multiple of one vector, but perhaps of no two.
    const auto multiply = channel + kPanel <= task.pitch ? MultiplyMatrix<2> : MultiplyMatrix<1>;
    multiply({task.scratch, padded}, queries, task.positions, {task.values + channel, task.pitch},
             output + channel, task.pitch);
  }
}

}  // namespace
}  // namespace MAGVIT_ISA

const AttentionKernels MAGVIT_KERNELS(AttentionKernels) = {
    MAGVIT_TEXT(MAGVIT_ISA), MAGVIT_ISA::kPanel, MAGVIT_ISA::kQueries, MAGVIT_ISA::ScratchSize,
    MAGVIT_ISA::Attend};

}  // namespace magvit
