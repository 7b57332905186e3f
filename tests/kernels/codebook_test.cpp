// The search of a codebook against plain loops in float64: layouts, types, ties, NaN, and any
// number of rows, channels and threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "magvit/operators.h"
#include "tensor/half.h"

namespace {

using magvit::Half;

template <typename T>
constexpr magvit_dtype kDtype = sizeof(T) == 2 ? MAGVIT_FLOAT16 : MAGVIT_FLOAT32;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Found {
  std::vector<int32_t> ids;
  std::vector<float> margins;
};

template <typename T>
Found Search(const std::vector<T>& latents, const magvit_shape& shape,
             const std::vector<float>& codebook, int32_t threads) {
  const int64_t rows = static_cast<int64_t>(codebook.size()) / shape.channels;
  Found found;
  found.ids.resize(shape.batch * shape.positions);
  found.margins.resize(found.ids.size());
  CHECK(magvit_codebook_argmax(latents.data(), kDtype<T>, shape, codebook.data(), rows,
                               found.ids.data(), found.margins.data(), threads) == MAGVIT_OK);
  std::vector<int32_t> alone(found.ids.size());
  CHECK(magvit_codebook_argmax(latents.data(), kDtype<T>, shape, codebook.data(), rows,
                               alone.data(), nullptr, threads) == MAGVIT_OK);
  CHECK(alone == found.ids);
  return found;
}

template <typename T>
void TestAgainstLoops(int64_t batch, int64_t channels, int64_t positions, int64_t rows) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int64_t pitch = channels + 3;
  std::vector<T> first(batch * channels * positions);
  std::vector<T> last(batch * positions * pitch, magvit::FromFloat<T>(kNan));
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t p = 0; p < positions; ++p) {
        const T value = magvit::FromFloat<T>(normal(random));
        first[(n * channels + c) * positions + p] = value;
        last[(n * positions + p) * pitch + c] = value;
      }
    }
  }
  std::vector<float> codebook(rows * channels);
  for (float& value : codebook) value = normal(random);

  const Found found =
      Search(first, {batch, channels, positions, MAGVIT_CHANNELS_FIRST, 0}, codebook, 1);
  const Found again =
      Search(last, {batch, channels, positions, MAGVIT_CHANNELS_LAST, pitch}, codebook, 3);
  CHECK(found.ids == again.ids);
  CHECK(found.margins == again.margins);

  for (int64_t i = 0; i < batch * positions; ++i) {
    double best = -INFINITY, second = -INFINITY;
    int64_t id = 0;
    for (int64_t row = 0; row < rows; ++row) {
      double score = 0;
      for (int64_t c = 0; c < channels; ++c) {
        score += static_cast<double>(magvit::ToFloat(last[i * pitch + c])) *
                 codebook[row * channels + c];
      }
      if (score > best) {
        second = best;
        best = score;
        id = row;
      } else {
        second = std::max(second, score);
      }
    }
    const double margin = best - second;
    if (rows > 1) CHECK(std::fabs(found.margins[i] - margin) <= 1e-4);
    CHECK(margin < 1e-4 || found.ids[i] == id);
  }
}

// Of equal scores the lowest row wins, wherever tiles, lanes and tasks begin.
void TestTies() {
  const int64_t rows = 9000;
  for (int64_t first : {0, 1, 13, 14, 139, 140, 1023, 1024, 8191, 8998}) {
    std::vector<float> codebook(rows * 2, 1.0f);
    for (int64_t row : {first, rows - 1}) codebook[2 * row] = codebook[2 * row + 1] = 2.0f;
    const std::vector<float> latents(2 * 40, 0.5f);
    const Found found = Search(latents, {1, 2, 40, MAGVIT_CHANNELS_FIRST, 0}, codebook, 2);
    for (int i = 0; i < 40; ++i) {
      CHECK(found.ids[i] == first);
      CHECK(found.margins[i] == 0.0f);
    }
  }
}

void TestNanAndInfinity() {
  const int64_t rows = 5000;
  const std::vector<float> one = {1.0f};
  const magvit_shape shape = {1, 1, 1, MAGVIT_CHANNELS_FIRST, 0};
  std::vector<float> codebook(rows, 1.0f);
  codebook[17] = INFINITY;
  codebook[4500] = codebook[4700] = kNan;
  Found found = Search(one, shape, codebook, 1);
  CHECK(found.ids[0] == 4500);
  CHECK(std::isnan(found.margins[0]));
  CHECK(Search<float>({kNan}, shape, codebook, 1).ids[0] == 0);
  const std::vector<float> lowest(rows, -INFINITY);
  CHECK(Search(one, shape, lowest, 1).ids[0] == 0);
  codebook[4500] = codebook[4700] = 1.0f;
  found = Search(one, shape, codebook, 1);
  CHECK(found.ids[0] == 17);
  CHECK(found.margins[0] == INFINITY);
}

void TestRefusals() {
  const std::vector<float> data(64);
  int32_t ids[4];
  const magvit_shape shape = {1, 4, 4, MAGVIT_CHANNELS_FIRST, 0};
  const auto search = [&](const float* latents, const float* codebook, int64_t rows) {
    return magvit_codebook_argmax(latents, MAGVIT_FLOAT32, shape, codebook, rows, ids, nullptr, 1);
  };
  CHECK(search(data.data(), data.data(), 0) == MAGVIT_BAD_ROWS);
  CHECK(search(data.data(), data.data(), int64_t{1} << 31) == MAGVIT_BAD_ROWS);
  CHECK(search(nullptr, data.data(), 4) == MAGVIT_NULL_POINTER);
  CHECK(search(data.data(), nullptr, 4) == MAGVIT_NULL_POINTER);
  const magvit_shape empty = {0, 4, 4, MAGVIT_CHANNELS_FIRST, 0};
  CHECK(magvit_codebook_argmax(nullptr, MAGVIT_FLOAT32, empty, nullptr, 4, nullptr, nullptr, 1) ==
        MAGVIT_OK);
}

}  // namespace

int main() {
  TestAgainstLoops<float>(2, 20, 35, 5000);
  TestAgainstLoops<Half>(2, 20, 35, 5000);
  TestAgainstLoops<float>(1, 256, 300, 140);
  TestAgainstLoops<float>(3, 1, 1, 1);
  TestAgainstLoops<float>(1, 7, 33, 2);
  TestTies();
  TestNanAndInfinity();
  TestRefusals();
  return Verdict();
}
