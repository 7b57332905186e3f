// Convs against plain loops in float64: sizes, strides, padding, normalisation, residuals, moments,
// shared backgrounds, and any number of threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "magvit/operators.h"

namespace {

// Floats on a 64-byte boundary.
class Floats {
 public:
  explicit Floats(size_t count) : memory_(count + 16) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    first_ = memory_.data() + (64 - address % 64) % 64 / 4;
  }
  float* get() { return first_; }
  float& operator[](size_t i) { return first_[i]; }

 private:
  std::vector<float> memory_;
  float* first_;
};

int64_t Pitch(int64_t channels) { return (channels + 15) / 16 * 16; }

struct Case {
  int64_t sizes[3], channels[2], kernel[3], stride[3], before[3], after[3];
  bool normalizes, adds;
  int64_t groups;
};

struct Map {
  int64_t sizes[3], channels;
  Floats values;
  Map(const int64_t (&s)[3], int64_t c)
      : sizes{s[0], s[1], s[2]}, channels(c), values(s[0] * s[1] * s[2] * Pitch(c)) {}
  float& At(int64_t t, int64_t y, int64_t x, int64_t c) {
    return values[((t * sizes[1] + y) * sizes[2] + x) * Pitch(channels) + c];
  }
  bool Has(int64_t t, int64_t y, int64_t x) const {
    return t >= 0 && t < sizes[0] && y >= 0 && y < sizes[1] && x >= 0 && x < sizes[2];
  }
  magvit_feature_map View() {
    return {values.get(),    sizes[0], sizes[1], sizes[2], channels,
            Pitch(channels), nullptr,  nullptr,  0,        0};
  }
};

template <typename Body>
void ForEach(const Map& map, const Body& body) {
  for (int64_t t = 0; t < map.sizes[0]; ++t) {
    for (int64_t y = 0; y < map.sizes[1]; ++y) {
      for (int64_t x = 0; x < map.sizes[2]; ++x) {
        for (int64_t c = 0; c < map.channels; ++c) body(t, y, x, c);
      }
    }
  }
}

double SiLU(double x) { return x / (1 + std::exp(-x)); }

// One conv, run by the library and by loops; returns the largest difference.
void TestConv(const Case& test, int32_t threads) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Map input(test.sizes, test.channels[0]);
  int64_t out_sizes[3];
  for (int i = 0; i < 3; ++i) {
    out_sizes[i] =
        (test.sizes[i] + test.before[i] + test.after[i] - test.kernel[i]) / test.stride[i] + 1;
  }
  Map output(out_sizes, test.channels[1]), residual(out_sizes, test.channels[1]);
  ForEach(input, [&](auto t, auto y, auto x, auto c) { input.At(t, y, x, c) = normal(random); });
  ForEach(residual,
          [&](auto t, auto y, auto x, auto c) { residual.At(t, y, x, c) = normal(random); });

  const int64_t taps = test.kernel[0] * test.kernel[1] * test.kernel[2];
  std::vector<float> weights(test.channels[0] * test.channels[1] * taps), bias(test.channels[1]);
  for (float& value : weights) value = normal(random) / std::sqrt(1.0f * taps * test.channels[0]);
  for (float& value : bias) value = normal(random);
  Floats mean(Pitch(test.channels[0])), scale(Pitch(test.channels[0])),
      shift(Pitch(test.channels[0]));
  for (int64_t i = 0; i < test.channels[0]; ++i) {
    mean[i] = normal(random), scale[i] = normal(random), shift[i] = normal(random);
  }

  magvit_pool* pool = magvit_pool_create(threads);
  CHECK(pool != nullptr && magvit_pool_threads(pool) == threads);
  magvit_conv_options options = {};
  options.in_channels = test.channels[0];
  options.out_channels = test.channels[1];
  std::copy_n(test.kernel, 3, options.kernel);
  std::copy_n(test.stride, 3, options.stride);
  std::copy_n(test.before, 3, options.pads_before);
  options.weights = weights.data();
  options.bias = bias.data();
  magvit_conv* conv = nullptr;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_OK);
  const magvit_normalization normalization = {mean.get(), scale.get(), shift.get(), MAGVIT_SILU};
  magvit_feature_map in = input.View(), out = output.View(), add = residual.View();
  std::vector<double> moments(2 * test.groups);
  magvit_conv_call call = {};
  call.input = &in;
  call.normalization = test.normalizes ? &normalization : nullptr;
  call.residual = test.adds ? &add : nullptr;
  call.output = &out;
  call.groups = test.groups;
  call.moments = moments.data();
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_OK);

  // What the conv reads, in float64, and its weights with the channels last.
  const auto place = [&](int64_t t, int64_t y, int64_t x) {
    return ((t * test.sizes[1] + y) * test.sizes[2] + x) * test.channels[0];
  };
  std::vector<double> seen(place(test.sizes[0], 0, 0)), turned(weights.size());
  ForEach(input, [&](auto t, auto y, auto x, auto c) {
    const double value = input.At(t, y, x, c);
    seen[place(t, y, x) + c] =
        test.normalizes ? SiLU((value - mean[c]) * scale[c] + shift[c]) : value;
  });
  for (int64_t c = 0; c < test.channels[1]; ++c) {
    for (int64_t i = 0; i < test.channels[0]; ++i) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        turned[(c * taps + tap) * test.channels[0] + i] =
            weights[(c * test.channels[0] + i) * taps + tap];
      }
    }
  }
  double error = 0;
  std::vector<double> sums(test.groups), squares(test.groups);
  ForEach(output, [&](int64_t t, int64_t y, int64_t x, int64_t c) {
    double expected = bias[c] + (test.adds ? residual.At(t, y, x, c) : 0.0);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t at[3] = {
          t * test.stride[0] - test.before[0] + tap / (test.kernel[1] * test.kernel[2]),
          y * test.stride[1] - test.before[1] + tap / test.kernel[2] % test.kernel[1],
          x * test.stride[2] - test.before[2] + tap % test.kernel[2]};
      if (!input.Has(at[0], at[1], at[2])) continue;
      const double* values = &seen[place(at[0], at[1], at[2])];
      const double* factors = &turned[(c * taps + tap) * test.channels[0]];
      for (int64_t i = 0; i < test.channels[0]; ++i) expected += values[i] * factors[i];
    }
    error = std::max(error, std::abs(expected - output.At(t, y, x, c)));
    sums[c * test.groups / test.channels[1]] += output.At(t, y, x, c);
    squares[c * test.groups / test.channels[1]] +=
        double(output.At(t, y, x, c)) * output.At(t, y, x, c);
  });
  CHECK(error < 1e-4);
  const double count =
      double(out_sizes[0]) * out_sizes[1] * out_sizes[2] * test.channels[1] / test.groups;
  for (int64_t group = 0; group < test.groups; ++group) {
    const double expected = sums[group] / count;
    CHECK(std::abs(moments[2 * group] - expected) < 1e-5);
    CHECK(std::abs(moments[2 * group + 1] - (squares[group] / count - expected * expected)) < 1e-4);
  }
  for (int64_t i = 0; i < out_sizes[0] * out_sizes[1] * out_sizes[2]; ++i) {
    for (int64_t c = test.channels[1]; c < Pitch(test.channels[1]); ++c) {
      CHECK(output.values[i * Pitch(test.channels[1]) + c] == 0.0f);
    }
  }
  magvit_conv_destroy(conv);
  magvit_pool_destroy(pool);
}

// A map of zeros except one pixel, with a shared background, gives the same as the whole map.
void TestBackground() {
  const int64_t sizes[3] = {3, 22, 30}, small[3] = {3, 4, 4}, out_small[3] = {3, 4, 4};
  Map whole(sizes, 16), background(small, 16);
  ForEach(whole, [&](auto t, auto y, auto x, auto c) {
    whole.At(t, y, x, c) = 1.0f + c + (t > 0 && y == 9 && x == 13 ? 5.0f : 0.0f);
  });
  ForEach(background,
          [&](auto t, auto y, auto x, auto c) { background.At(t, y, x, c) = 1.0f + c; });
  std::vector<float> weights(16 * 16 * 27);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float& value : weights) value = normal(random) / 20;

  magvit_pool* pool = magvit_pool_create(2);
  magvit_conv_options options = {16, 16, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, weights.data(), nullptr};
  magvit_conv* conv = nullptr;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_OK);

  Map dense(sizes, 16), shared(sizes, 16), shared_background(out_small, 16);
  double dense_moments[8], shared_moments[8];
  magvit_feature_map in = whole.View(), out = dense.View();
  magvit_conv_call call = {&in, nullptr, nullptr, &out, nullptr, 4, dense_moments};
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_OK);

  // Tiles of 4x4; the pixel's window reaches those of rows 8 to 10 and columns 12 to 14.
  std::vector<int16_t> in_first(6 * 8, 3), out_first(6 * 8, 3);
  in_first[2 * 8 + 3] = out_first[2 * 8 + 3] = 1;
  std::vector<float> counts(3 * 16);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t y = 0; y < 22; ++y) {
      for (int64_t x = 0; x < 30; ++x) {
        if (t >= out_first[y / 4 * 8 + x / 4]) continue;
        const int64_t row = y == 0 || y == 1 ? y : std::max<int64_t>(2, y - 18);
        const int64_t column = x == 0 || x == 1 ? x : std::max<int64_t>(2, x - 26);
        counts[(t * 4 + row) * 4 + column] += 1;
      }
    }
  }
  in.first_frames = in_first.data();
  in.background = background.values.get();
  in.background_height = in.background_width = 4;
  out = shared.View();
  out.first_frames = out_first.data();
  out.background = shared_background.values.get();
  out.background_height = out.background_width = 4;
  call = {&in, nullptr, nullptr, &out, counts.data(), 4, shared_moments};
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_OK);
  ForEach(dense, [&](int64_t t, int64_t y, int64_t x, int64_t c) {
    const bool is_own = t >= out_first[y / 4 * 8 + x / 4];
    const int64_t row = y < 2 ? y : std::max<int64_t>(2, y - 18);
    const int64_t column = x < 2 ? x : std::max<int64_t>(2, x - 26);
    const float value = is_own ? shared.At(t, y, x, c) : shared_background.At(t, row, column, c);
    CHECK(std::abs(value - dense.At(t, y, x, c)) < 1e-4);
  });
  for (int i = 0; i < 8; ++i) CHECK(std::abs(dense_moments[i] - shared_moments[i]) < 1e-4);

  // A whole map has no background that could be read.
  in.first_frames = nullptr;
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_BAD_BACKGROUND);
  magvit_conv_destroy(conv);
  magvit_pool_destroy(pool);
}

// Callers of one pool take turns, and each gets its own result.
void TestManyCallers() {
  const int64_t sizes[3] = {2, 9, 10};
  std::vector<float> weights(16 * 16 * 9, 0.01f);
  magvit_pool* pool = magvit_pool_create(2);
  magvit_conv_options options = {16, 16, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, weights.data(), nullptr};
  magvit_conv* conv = nullptr;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_OK);
  const auto call = [&](float value) {
    Map input(sizes, 16), output(sizes, 16);
    ForEach(input, [&](auto t, auto y, auto x, auto c) { input.At(t, y, x, c) = value; });
    magvit_feature_map in = input.View(), out = output.View();
    const magvit_conv_call once = {&in, nullptr, nullptr, &out, nullptr, 0, nullptr};
    for (int i = 0; i < 20; ++i) {
      CHECK(magvit_conv_run(conv, &once, pool) == MAGVIT_OK);
      CHECK(std::abs(output.At(1, 4, 5, 3) - 1.44f * value) < 1e-4f * value);
    }
  };
  std::vector<std::thread> callers;
  for (const float value : {1.0f, 2.0f, 3.0f}) callers.emplace_back(call, value);
  for (std::thread& caller : callers) caller.join();
  magvit_conv_destroy(conv);
  magvit_pool_destroy(pool);
}

void TestRefusals() {
  magvit_pool* pool = magvit_pool_create(1);
  std::vector<float> weights(9);
  magvit_conv* conv = nullptr;
  magvit_conv_options options = {1, 1, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, weights.data(), nullptr};
  CHECK(magvit_conv_create(nullptr, pool, &conv) == MAGVIT_NULL_POINTER);
  options.stride[1] = 0;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_BAD_CONV);
  options.stride[1] = 1;
  options.pads_before[2] = 3;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_BAD_CONV);
  options.pads_before[2] = 1;
  CHECK(magvit_conv_create(&options, pool, &conv) == MAGVIT_OK);
  const int64_t sizes[3] = {1, 4, 4}, larger[3] = {1, 7, 4};
  Map input(sizes, 1), output(larger, 1), other(sizes, 2);
  magvit_feature_map in = input.View(), out = output.View(), wrong = other.View();
  magvit_conv_call call = {&in, nullptr, nullptr, &out, nullptr, 0, nullptr};
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_BAD_SHAPE);
  call.output = &wrong;
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_BAD_SHAPE);
  double moments[2];
  out = input.View();
  call.output = &out;
  call.groups = 3;
  call.moments = moments;
  CHECK(magvit_conv_run(conv, &call, pool) == MAGVIT_BAD_GROUPS);
  magvit_conv_destroy(conv);
  magvit_conv_destroy(nullptr);
  magvit_pool_destroy(pool);
}

}  // namespace

int main() {
  const Case cases[] = {
      // sizes, channels, kernel, stride, padding before and after, normalises, adds, groups
      {{5, 16, 20}, {32, 64}, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, {0, 1, 1}, true, true, 32},
      {{1, 16, 20}, {32, 64}, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, {0, 1, 1}, true, true, 32},
      {{3, 13, 9}, {48, 40}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, true, false, 8},
      {{2, 5, 3}, {17, 33}, {2, 3, 3}, {1, 1, 1}, {1, 0, 2}, {0, 2, 0}, false, true, 3},
      {{1, 1, 1}, {16, 16}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true, true, 1},
      {{7, 13, 9}, {48, 40}, {3, 3, 3}, {2, 2, 2}, {2, 1, 1}, {0, 1, 1}, false, false, 8},
      {{4, 9, 10}, {3, 32}, {3, 3, 3}, {1, 1, 1}, {2, 1, 1}, {0, 1, 1}, false, false, 4},
      {{4, 9, 10}, {64, 18}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, true, false, 6},
      {{4, 9, 10}, {5, 7}, {2, 3, 4}, {1, 2, 1}, {1, 1, 2}, {0, 0, 1}, true, true, 7},
      {{2, 8, 8}, {16, 16}, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}, {0, 1, 1}, true, true, 2},
  };
  for (const Case& test : cases) {
    for (const int32_t threads : {1, 3}) TestConv(test, threads);
  }
  TestBackground();
  TestManyCallers();
  TestRefusals();
  return Verdict();
}
