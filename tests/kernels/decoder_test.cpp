// Adaptive norms and depth to space against plain loops in float64: sizes, blocks, moments, and any
// number of threads.
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "magvit/operators.h"

namespace {

int64_t Pitch(int64_t channels) { return (channels + 15) / 16 * 16; }

// A map on a 64-byte boundary, its padding channels zero.
class Map {
 public:
  Map(int64_t frames, int64_t height, int64_t width, int64_t channels)
      : view_{nullptr, frames, height, width, channels, Pitch(channels), nullptr, nullptr, 0, 0},
        memory_(positions() * Pitch(channels) + 16) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    view_.values = memory_.data() + (64 - address % 64) % 64 / 4;
  }

  int64_t positions() const { return view_.frames * view_.height * view_.width; }
  float& At(int64_t position, int64_t channel) {
    return view_.values[position * view_.channel_pitch + channel];
  }
  const magvit_feature_map* view() const { return &view_; }

  void Fill(std::mt19937* random, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    for (int64_t i = 0; i < positions(); ++i) {
      for (int64_t c = 0; c < view_.channels; ++c) At(i, c) = normal(*random);
    }
  }

 private:
  magvit_feature_map view_;
  std::vector<float> memory_;
};

struct Pool {
  explicit Pool(int32_t threads) : handle(magvit_pool_create(threads)) {}
  ~Pool() { magvit_pool_destroy(handle); }
  magvit_pool* handle;
};

void Moments(Map* map, int64_t first, int64_t count, double* moments) {
  double sum = 0, squares = 0;
  const double values = static_cast<double>(map->positions() * count);
  for (int64_t i = 0; i < map->positions(); ++i) {
    for (int64_t c = first; c < first + count; ++c) sum += map->At(i, c);
  }
  moments[0] = sum / values;
  for (int64_t i = 0; i < map->positions(); ++i) {
    for (int64_t c = first; c < first + count; ++c) {
      squares += std::pow(map->At(i, c) - moments[0], 2);
    }
  }
  moments[1] = squares / values;
}

// The mean may be large beside the deviation: then sums of squares would lose it.
void CheckAdaptiveNorm(int64_t frames, int64_t height, int64_t width, int64_t channels,
                       int64_t groups, float mean, int32_t threads) {
  const Pool pool(threads);
  std::mt19937 random(7);
  Map map(frames, height, width, channels), before(frames, height, width, channels);
  map.Fill(&random, mean, 1.0f);
  for (int64_t i = 0; i < map.positions(); ++i) {
    for (int64_t c = 0; c < channels; ++c) before.At(i, c) = map.At(i, c);
  }
  std::vector<float> scale(channels), shift(channels);
  for (float& value : scale) value = std::normal_distribution<float>()(random);
  for (float& value : shift) value = std::normal_distribution<float>()(random);
  std::vector<double> moments(2 * groups);
  const magvit_adaptive_norm_call call = {map.view(),   groups,       1e-6,
                                          scale.data(), shift.data(), moments.data()};
  CHECK(magvit_adaptive_norm_run(&call, pool.handle) == MAGVIT_OK);
  const int64_t each = channels / groups;
  for (int64_t group = 0; group < groups; ++group) {
    double expected[2], left[2];
    Moments(&before, group * each, each, expected);
    for (int64_t c = group * each; c < (group + 1) * each; ++c) {
      for (int64_t i = 0; i < map.positions(); ++i) {
        const double normalized =
            (before.At(i, c) - expected[0]) / std::sqrt(expected[1] + 1e-6) * scale[c] + shift[c];
        CHECK(std::abs(map.At(i, c) - normalized) < 2e-6 * (10 + std::abs(mean)));
      }
    }
    Moments(&map, group * each, each, left);
    CHECK(std::abs(moments[2 * group] - left[0]) < 2e-6 * (10 + std::abs(mean)));
    CHECK(std::abs(moments[2 * group + 1] - left[1]) < 1e-5 * (10 + std::abs(mean)));
  }
  for (int64_t i = 0; i < map.positions(); ++i) {
    for (int64_t c = channels; c < Pitch(channels); ++c) CHECK(map.At(i, c) == 0.0f);
  }
}

void CheckThreadsAgree() {
  std::vector<std::vector<float>> results;
  for (int32_t threads : {1, 2, 3, 8}) {
    const Pool pool(threads);
    std::mt19937 random(3);
    Map map(3, 17, 13, 64);
    map.Fill(&random, 0.5f, 2.0f);
    const std::vector<float> scale(64, 1.5f), shift(64, -0.5f);
    const magvit_adaptive_norm_call call = {map.view(),   32,           1e-6,
                                            scale.data(), shift.data(), nullptr};
    CHECK(magvit_adaptive_norm_run(&call, pool.handle) == MAGVIT_OK);
    results.emplace_back(&map.At(0, 0), &map.At(map.positions() - 1, 0) + 64);
  }
  for (const std::vector<float>& result : results) CHECK(result == results.front());
}

void CheckDepthToSpace(int64_t frames, int64_t height, int64_t width, int64_t channels,
                       const int64_t (&block)[3], int32_t threads) {
  const Pool pool(threads);
  std::mt19937 random(5);
  const int64_t parts = block[0] * block[1] * block[2];
  Map coarse(frames, height, width, parts * channels);
  coarse.Fill(&random, 0.0f, 1.0f);
  const int64_t fine_height = height * block[1], fine_width = width * block[2];
  Map fine((frames - 1) * block[0] + 1, fine_height, fine_width, channels);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int64_t i = 0; i < fine.positions(); ++i) {
    for (int64_t c = 0; c < Pitch(channels); ++c) fine.At(i, c) = nan;
  }
  CHECK(magvit_depth_to_space_run(coarse.view(), block, fine.view(), pool.handle) == MAGVIT_OK);
  // Every value of every block, but for the later frames of the first.
  for (int64_t t = 0; t < frames * block[0]; ++t) {
    if (t > 0 && t < block[0]) continue;
    const int64_t frame = t == 0 ? 0 : t - block[0] + 1;
    for (int64_t y = 0; y < fine_height; ++y) {
      for (int64_t x = 0; x < fine_width; ++x) {
        const int64_t from = (t / block[0] * height + y / block[1]) * width + x / block[2];
        const int64_t part = (t % block[0] * block[1] + y % block[1]) * block[2] + x % block[2];
        const int64_t to = (frame * fine_height + y) * fine_width + x;
        for (int64_t c = 0; c < channels; ++c) {
          CHECK(fine.At(to, c) == coarse.At(from, part * channels + c));
        }
        for (int64_t c = channels; c < Pitch(channels); ++c) CHECK(fine.At(to, c) == 0.0f);
      }
    }
  }
}

void CheckRefusals() {
  const Pool pool(1);
  Map coarse(2, 2, 2, 32), fine(3, 4, 4, 4), other(4, 4, 4, 4);
  const int64_t block[3] = {2, 2, 2}, none[3] = {0, 2, 2};
  CHECK(magvit_depth_to_space_run(nullptr, block, fine.view(), pool.handle) == MAGVIT_NULL_POINTER);
  CHECK(magvit_depth_to_space_run(coarse.view(), block, fine.view(), nullptr) ==
        MAGVIT_NULL_POINTER);
  CHECK(magvit_depth_to_space_run(coarse.view(), block, other.view(), pool.handle) ==
        MAGVIT_BAD_SHAPE);
  CHECK(magvit_depth_to_space_run(coarse.view(), none, fine.view(), pool.handle) ==
        MAGVIT_BAD_SHAPE);
  const std::vector<float> ones(32, 1.0f);
  magvit_adaptive_norm_call call = {coarse.view(), 5, 1e-6, ones.data(), ones.data(), nullptr};
  CHECK(magvit_adaptive_norm_run(&call, pool.handle) == MAGVIT_BAD_GROUPS);
  call.groups = 4;
  call.scale = nullptr;
  CHECK(magvit_adaptive_norm_run(&call, pool.handle) == MAGVIT_NULL_POINTER);
}

}  // namespace

int main() {
  CheckAdaptiveNorm(1, 1, 1, 32, 32, 0.0f, 1);
  CheckAdaptiveNorm(2, 5, 7, 64, 32, 0.0f, 2);
  CheckAdaptiveNorm(3, 9, 4, 24, 4, 100.0f, 3);
  CheckThreadsAgree();
  CheckDepthToSpace(1, 1, 1, 16, {2, 2, 2}, 1);
  CheckDepthToSpace(1, 3, 2, 5, {1, 2, 2}, 2);
  CheckDepthToSpace(3, 2, 3, 20, {2, 2, 2}, 2);
  CheckDepthToSpace(2, 2, 2, 3, {3, 1, 2}, 8);
  CheckRefusals();
  return Verdict();
}
