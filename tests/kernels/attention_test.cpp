// Attention against plain loops in float64: sizes that fill no vector, large products, threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "magvit/operators.h"

namespace {

// A map in memory on a 64-byte boundary; padding channels are zero.
class Map {
 public:
  Map(int64_t frames, int64_t height, int64_t width, int64_t channels)
      : pitch_((channels + 15) / 16 * 16), memory_(frames * height * width * pitch_ + 16) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    first_ = memory_.data() + (64 - address % 64) % 64 / 4;
    view_ = {first_, frames, height, width, channels, pitch_, nullptr, nullptr, 0, 0};
  }
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  void Fill(std::mt19937& random, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < positions(); ++i) {
      for (int64_t c = 0; c < view_.channels; ++c) At(i, c) = normal(random);
    }
  }
  float& At(int64_t position, int64_t channel) { return first_[position * pitch_ + channel]; }
  int64_t positions() const { return view_.frames * view_.height * view_.width; }
  int64_t pitch() const { return pitch_; }
  const magvit_feature_map* view() const { return &view_; }

 private:
  int64_t pitch_;
  std::vector<float> memory_;
  float* first_;
  magvit_feature_map view_;
};

void TestAgainstLoops(int64_t frames, int64_t height, int64_t width, int64_t channels, float scale,
                      int32_t threads) {
  std::mt19937 random(3);
  Map queries(frames, height, width, channels), keys(frames, height, width, channels);
  Map values(frames, height, width, channels), output(frames, height, width, channels);
  queries.Fill(random, scale);
  keys.Fill(random, scale);
  values.Fill(random, 1.0f);
  magvit_pool* pool = magvit_pool_create(threads);
  CHECK(magvit_attention_run(queries.view(), keys.view(), values.view(), output.view(), pool) ==
        MAGVIT_OK);
  magvit_pool_destroy(pool);

  const int64_t positions = queries.positions();
  for (int64_t p = 0; p < positions; ++p) {
    std::vector<double> weights(positions);
    for (int64_t q = 0; q < positions; ++q) {
      for (int64_t c = 0; c < channels; ++c) {
        weights[q] += static_cast<double>(queries.At(p, c)) * keys.At(q, c) / std::sqrt(channels);
      }
    }
    const double most = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - most);
    for (int64_t c = 0; c < channels; ++c) {
      double expected = 0;
      for (int64_t q = 0; q < positions; ++q) expected += weights[q] / sum * values.At(q, c);
      CHECK(std::fabs(output.At(p, c) - expected) <= 2e-5 * std::max(1.0f, scale * scale));
    }
    for (int64_t c = channels; c < output.pitch(); ++c) CHECK(output.At(p, c) == 0.0f);
  }
}

void TestRefusals() {
  Map map(1, 4, 4, 8), wider(1, 4, 5, 8);
  magvit_pool* pool = magvit_pool_create(1);
  const auto run = [&](const magvit_feature_map* keys) {
    return magvit_attention_run(map.view(), keys, map.view(), map.view(), pool);
  };
  CHECK(run(nullptr) == MAGVIT_NULL_POINTER);
  CHECK(run(wider.view()) == MAGVIT_BAD_SHAPE);
  magvit_feature_map shared = *map.view();
  const int16_t first_frames[1] = {0};
  shared.first_frames = first_frames;
  CHECK(run(&shared) == MAGVIT_BAD_BACKGROUND);
  CHECK(magvit_attention_run(map.view(), map.view(), map.view(), map.view(), nullptr) ==
        MAGVIT_NULL_POINTER);
  magvit_pool_destroy(pool);
}

}  // namespace

int main() {
  TestAgainstLoops(1, 16, 16, 64, 1.0f, 2);
  TestAgainstLoops(1, 5, 7, 48, 1.0f, 1);
  TestAgainstLoops(2, 3, 3, 20, 4.0f, 3);
  TestAgainstLoops(1, 1, 1, 8, 1.0f, 1);
  // All products are far below 0, and so below those with padding.
  TestAgainstLoops(1, 3, 3, 32, 10.0f, 1);
  TestRefusals();
  return Verdict();
}
