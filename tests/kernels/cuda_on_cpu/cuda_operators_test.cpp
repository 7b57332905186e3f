// The CUDA operators, run on the CPU, against the CPU operators and plain loops: sums, borders,
// every pair of types, odd sizes and padded channels, any number and order of blocks, and what they
// refuse.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../check.h"
#include "cuda_on_cpu.h"
#include "cuda_operators/map_checks.h"
#include "magvit/cuda_operators.h"
#include "magvit/operators.h"
#include "tensor/fast_divisor.h"
#include "tensor/half.h"
#include "tensor/shape.h"

namespace {

using magvit::Half;
using magvit::HasBorder;
using magvit::Positions;

constexpr magvit_cuda_addends kNoAddends = {};

// Elements of a map with its border.
int64_t Elements(const magvit_cuda_map& map) {
  int64_t count = map.batch * map.pitch;
  for (int i = 0; i < 3; ++i) count *= map.before[i] + map.sizes[i] + map.after[i];
  return count;
}

float Read(magvit_dtype dtype, const void* data, int64_t index) {
  if (dtype == MAGVIT_FLOAT32) return static_cast<const float*>(data)[index];
  return magvit::ToFloat(static_cast<const Half*>(data)[index]);
}

float Rounded(magvit_dtype dtype, float value) {
  return dtype == MAGVIT_FLOAT32 ? value : magvit::ToFloat(magvit::FromFloat<Half>(value));
}

void Write(magvit_dtype dtype, void* data, int64_t index, float value) {
  if (dtype == MAGVIT_FLOAT32) {
    static_cast<float*>(data)[index] = value;
  } else {
    static_cast<Half*>(data)[index] = magvit::FromFloat<Half>(value);
  }
}

// A map's memory, aligned like cudaMalloc's, between guards that no code may touch.
class Memory {
 public:
  static constexpr int64_t kGuard = 256;

  explicit Memory(int64_t bytes) : storage_(bytes + 3 * kGuard, 'g'), bytes_(bytes) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data()) + kGuard;
    data_ = reinterpret_cast<char*>((address + kGuard - 1) / kGuard * kGuard);
    std::fill_n(data_, bytes, '\0');
  }
  void* data() { return data_; }
  bool IsIntact() const {
    const auto is_guard = [](char value) { return value == 'g'; };
    return std::all_of(data_ - kGuard, data_, is_guard) &&
           std::all_of(data_ + bytes_, data_ + bytes_ + kGuard, is_guard);
  }

 private:
  std::vector<char> storage_;
  char* data_;
  int64_t bytes_;
};

struct Map {
  explicit Map(magvit_cuda_map described)
      : map(described), memory(Elements(described) * (map.dtype == MAGVIT_FLOAT32 ? 4 : 2)) {
    map.data = memory.data();
  }
  float At(int64_t index) { return Read(map.dtype, map.data, index); }

  magvit_cuda_map map;
  Memory memory;
};

magvit_cuda_map Packed(magvit_dtype dtype, int64_t batch, int64_t frames, int64_t height,
                       int64_t width, int64_t channels) {
  const int64_t pitch = magvit::DivideUp(channels, 8) * 8;
  return {nullptr, dtype, batch, {frames, height, width}, channels, pitch, {0, 0, 0}, {0, 0, 0}};
}

magvit_cuda_map Bordered(magvit_cuda_map map) {
  const int64_t before[] = {2, 1, 0}, after[] = {0, 2, 1};
  std::copy_n(before, 3, map.before);
  std::copy_n(after, 3, map.after);
  return map;
}

// Padding channels hold NaN, which no result may show.
void FillRandom(Map& features, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.5f, 2.0f);
  for (int64_t i = 0; i < Elements(features.map); ++i) {
    const bool padding = i % features.map.pitch >= features.map.channels;
    Write(features.map.dtype, features.map.data, i,
          padding ? std::numeric_limits<float>::quiet_NaN() : normal(generator));
  }
}

std::vector<float> RandomVector(int64_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.2f, 1.0f);
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator);
  return values;
}

// Calls `check(index in a packed map, index in `map`, channel)` for the whole packed map.
template <typename Check>
void ForEach(const magvit_cuda_map& map, const Check& check) {
  int64_t packed = 0;
  const auto outside = [&](int axis) {
    return map.before[axis] + map.sizes[axis] + map.after[axis];
  };
  for (int64_t n = 0; n < map.batch; ++n) {
    for (int64_t t = 0; t < map.sizes[0]; ++t) {
      for (int64_t h = 0; h < map.sizes[1]; ++h) {
        for (int64_t w = 0; w < map.sizes[2]; ++w) {
          const int64_t row =
              ((n * outside(0) + t + map.before[0]) * outside(1) + h + map.before[1]);
          const int64_t place = (row * outside(2) + w + map.before[2]) * map.pitch;
          for (int64_t c = 0; c < map.pitch; ++c) check(packed++, place + c, c);
        }
      }
    }
  }
}

// Wrong elements of `found`: its interior against `expected` (packed), padding channels and the
// border against zero.
int64_t CountWrong(Map& found, const std::vector<float>& expected, float tolerance) {
  std::vector<bool> is_inside(Elements(found.map), false);
  int64_t wrong = 0;
  ForEach(found.map, [&](int64_t packed, int64_t place, int64_t channel) {
    is_inside[place] = true;
    const float wanted = channel < found.map.channels ? expected[packed] : 0.0f;
    const float error = std::fabs(found.At(place) - wanted);
    if (!(error <= tolerance * (1.0f + std::fabs(wanted)))) ++wrong;
  });
  for (int64_t i = 0; i < Elements(found.map); ++i) {
    if (!is_inside[i] && found.At(i) != 0.0f) ++wrong;
  }
  return wrong;
}

struct Addends {
  bool bias;
  bool residual;
};

// statistics, then apply, against the CPU's GroupNorm of the same sum.
void TestNormalization(const magvit_cuda_map& shape, magvit_dtype sum_type, magvit_dtype out_type,
                       Addends added, int64_t groups) {
  Map features(shape);
  FillRandom(features, 1);
  magvit_cuda_map sum_shape = shape;
  sum_shape.dtype = sum_type;
  Map sum(sum_shape), residual(sum_shape);
  FillRandom(residual, 2);
  const std::vector<float> bias = RandomVector(shape.channels, 3);
  const std::vector<float> weight = RandomVector(shape.channels, 4);
  magvit_cuda_addends addends = {};
  if (added.bias) addends.bias = bias.data();
  if (added.residual) addends.residual = residual.map.data;
  const bool adds = added.bias || added.residual;

  std::vector<float> expected_sum(Elements(shape));
  for (int64_t i = 0; i < Elements(shape); ++i) {
    const int64_t channel = i % shape.pitch;
    float value = features.At(i);
    if (added.bias && channel < shape.channels) value += bias[channel];
    if (added.residual) value += residual.At(i);
    expected_sum[i] = Rounded(sum_type, value);
  }
  const magvit_group_norm_options options = {groups,      1e-6f, weight.data(),
                                             bias.data(), 0,     MAGVIT_SILU};
  std::vector<float> expected(Elements(shape));
  magvit_group_norm(expected_sum.data(), MAGVIT_FLOAT32, magvit::AsShape(shape), &options,
                    expected.data(), 1);

  // If the types allow it, the sum replaces the features in memory.
  const magvit_cuda_map& target = !adds || sum_type == shape.dtype ? features.map : sum.map;
  Memory workspace(magvit_cuda_workspace_bytes(features.map, groups));
  std::vector<uint32_t> arrivals(shape.batch, 0);
  CHECK(magvit_cuda_statistics(features.map, addends, target, &options, workspace.data(),
                               arrivals.data(), nullptr) == cudaSuccess);
  CHECK(arrivals == std::vector<uint32_t>(shape.batch, 0));
  int64_t wrong = 0;
  for (int64_t i = 0; i < Elements(shape); ++i) {
    const bool padding = i % shape.pitch >= shape.channels;
    if (!padding && Read(target.dtype, target.data, i) != expected_sum[i]) ++wrong;
  }
  CHECK(wrong == 0);

  for (const bool has_border : {false, true}) {
    magvit_cuda_map out_shape = has_border ? Bordered(shape) : shape;
    out_shape.dtype = out_type;
    Map output(out_shape);
    CHECK(magvit_cuda_apply(target, kNoAddends, target.dtype, &options, workspace.data(),
                            output.map, nullptr) == cudaSuccess);
    const float tolerance = out_type == MAGVIT_FLOAT16 ? 1e-3f : 4e-6f;
    CHECK(CountWrong(output, expected, tolerance) == 0);
    CHECK(output.memory.IsIntact());
  }
  CHECK(features.memory.IsIntact() && sum.memory.IsIntact() && workspace.IsIntact());
}

// The normalisation of a map in the workspace, computed in as many blocks as fit at once.
std::vector<float> Statistics(int64_t resident_blocks, bool backwards) {
  cuda_on_cpu::resident_blocks = resident_blocks;
  cuda_on_cpu::backwards = backwards;
  Map features(Packed(MAGVIT_FLOAT16, 2, 3, 20, 20, 64));
  FillRandom(features, 7);
  const magvit_group_norm_options options = {32, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU};
  Memory workspace(magvit_cuda_workspace_bytes(features.map, 32));
  uint32_t arrivals[] = {0, 0};
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(magvit_cuda_statistics(features.map, kNoAddends, features.map, &options, workspace.data(),
                                 arrivals, nullptr) == cudaSuccess);
    CHECK(arrivals[0] == 0 && arrivals[1] == 0);
  }
  CHECK(workspace.IsIntact());
  const auto* values = static_cast<const float*>(workspace.data());
  cuda_on_cpu::resident_blocks = 24;
  cuda_on_cpu::backwards = false;
  return {values, values + 3 * 2 * 64};
}

// It changes no bit which block is the last. The number of blocks changes only the last bits.
void TestBlocks() {
  const std::vector<float> expected = Statistics(24, false);
  for (const int64_t resident : {1, 7, 132 * 3, 5000}) {
    const std::vector<float> found = Statistics(resident, false);
    CHECK(found == Statistics(resident, true));
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK(std::fabs(found[i] - expected[i]) <= 2e-6f * (1.0f + std::fabs(expected[i])));
    }
  }
}

// apply without a normalisation: a sum, put into a border and another type.
void TestSum(const magvit_cuda_map& shape, magvit_dtype sum_type, magvit_dtype out_type) {
  Map features(shape);
  FillRandom(features, 1);
  magvit_cuda_map sum_shape = shape;
  sum_shape.dtype = sum_type;
  Map residual(sum_shape);
  FillRandom(residual, 2);
  const std::vector<float> bias = RandomVector(shape.channels, 3);
  magvit_cuda_map out_shape = Bordered(shape);
  out_shape.dtype = out_type;
  Map output(out_shape);
  CHECK(magvit_cuda_apply(features.map, {bias.data(), residual.map.data}, sum_type, nullptr,
                          nullptr, output.map, nullptr) == cudaSuccess);
  std::vector<float> expected(Elements(shape));
  for (int64_t i = 0; i < Elements(shape); ++i) {
    const int64_t channel = i % shape.pitch;
    const float addend = channel < shape.channels ? bias[channel] : 0.0f;
    const float value = features.At(i) + addend + residual.At(i);
    expected[i] = Rounded(out_type, Rounded(sum_type, value));
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
}

void TestPixels(magvit_dtype dtype, int64_t channels) {
  Map output(Bordered(Packed(dtype, 2, 3, 5, 7, channels)));
  const int64_t count = output.map.batch * Positions(output.map);
  std::vector<uint8_t> frames(count * channels);
  for (size_t i = 0; i < frames.size(); ++i) frames[i] = static_cast<uint8_t>(i * 37);
  CHECK(magvit_cuda_pixels(frames.data(), 127.5f, -1.0f, output.map, nullptr) == cudaSuccess);
  std::vector<float> expected(count * output.map.pitch);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      const float value = static_cast<float>(frames[i * channels + c]) / 127.5f - 1.0f;
      expected[i * output.map.pitch + c] = Rounded(dtype, value);
    }
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
}

void TestLfq(magvit_dtype dtype, int64_t channels) {
  Map latents(Packed(dtype, 3, 2, 5, 7, channels));
  FillRandom(latents, 5);
  const int64_t positions = Positions(latents.map);
  std::vector<int32_t> found(3 * positions), expected(found.size());
  std::vector<float> values(3 * channels * positions);
  CHECK(magvit_cuda_lfq(latents.map, found.data(), values.data(), nullptr) == cudaSuccess);
  magvit_lfq(latents.map.data, dtype, magvit::AsShape(latents.map), expected.data(), nullptr, 1);
  CHECK(found == expected);
  int64_t wrong = 0;
  ForEach(latents.map, [&](int64_t, int64_t place, int64_t channel) {
    if (channel >= channels) return;
    const int64_t position = place / latents.map.pitch;
    const int64_t clip = position / positions;
    const int64_t index = (clip * channels + channel) * positions + position % positions;
    if (values[index] != latents.At(place)) ++wrong;
  });
  CHECK(wrong == 0);
}

void TestRefusals() {
  Map half(Packed(MAGVIT_FLOAT16, 1, 1, 2, 2, 8)), single(Packed(MAGVIT_FLOAT32, 1, 1, 2, 2, 8));
  Map other(Packed(MAGVIT_FLOAT16, 1, 1, 2, 3, 8)), bordered(Bordered(half.map));
  Memory workspace(magvit_cuda_workspace_bytes(half.map, 2));
  const magvit_group_norm_options options = {2, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU};
  magvit_group_norm_options odd = options;
  odd.num_groups = 3;
  uint32_t arrivals = 0;
  const auto statistics = [&](magvit_cuda_map from, magvit_cuda_map to,
                              const magvit_group_norm_options* how) {
    return magvit_cuda_statistics(from, kNoAddends, to, how, workspace.data(), &arrivals, nullptr);
  };
  CHECK(statistics(half.map, half.map, &options) == cudaSuccess);
  CHECK(statistics(half.map, half.map, &odd) == cudaErrorInvalidValue);
  CHECK(statistics(half.map, half.map, nullptr) == cudaErrorInvalidValue);
  CHECK(magvit_cuda_statistics(half.map, kNoAddends, half.map, &options, workspace.data(), nullptr,
                               nullptr) == cudaErrorInvalidValue);
  CHECK(statistics(half.map, single.map, &options) == cudaErrorInvalidValue);
  CHECK(statistics(bordered.map, bordered.map, &options) == cudaErrorInvalidValue);
  const auto apply = [&](magvit_cuda_map from, magvit_dtype sum_type, magvit_cuda_map to) {
    return magvit_cuda_apply(from, kNoAddends, sum_type, nullptr, nullptr, to, nullptr);
  };
  CHECK(apply(half.map, MAGVIT_FLOAT16, single.map) == cudaSuccess);
  CHECK(apply(half.map, MAGVIT_FLOAT32, single.map) == cudaErrorInvalidValue);
  CHECK(apply(half.map, MAGVIT_FLOAT16, other.map) == cudaErrorInvalidValue);
  // A normalised sum: the statistics pass wrote it already.
  CHECK(magvit_cuda_apply(half.map, {nullptr, half.map.data}, MAGVIT_FLOAT16, &options,
                          workspace.data(), single.map, nullptr) == cudaErrorInvalidValue);
  magvit_cuda_map crooked = half.map;
  crooked.data = static_cast<char*>(crooked.data) + 16;
  CHECK(apply(crooked, MAGVIT_FLOAT16, single.map) == cudaErrorInvalidValue);
  crooked = half.map;
  crooked.pitch = 12;
  CHECK(apply(crooked, MAGVIT_FLOAT16, single.map) == cudaErrorInvalidValue);
  crooked = half.map;
  crooked.sizes[0] = crooked.sizes[1] = 1 << 16;
  CHECK(apply(crooked, MAGVIT_FLOAT16, crooked) == cudaErrorInvalidValue);
  crooked = half.map;
  crooked.before[0] = crooked.after[1] = 1 << 16;
  CHECK(apply(half.map, MAGVIT_FLOAT16, crooked) == cudaErrorInvalidValue);
}

void TestFastDivisor() {
  std::mt19937 generator(6);
  const uint32_t numbers[] = {
      0, 1, 2, 3, 127, 128, 65535, 1u << 30, (1u << 31) - 2, (1u << 31) - 1};
  for (int i = 0; i < 20000; ++i) {
    const uint32_t bits = 1 + generator() % 31;
    const uint32_t divisor = i < 1000 ? i + 1 : 1 + (generator() >> (32 - bits));
    const magvit::FastDivisor fast(divisor);
    for (uint32_t number : numbers) CHECK(fast.Quotient(number) == number / divisor);
    const auto random = static_cast<uint32_t>(generator());
    for (uint32_t number : {divisor - 1, divisor, 2 * divisor - 1, random}) {
      number &= 0x7fffffff;
      CHECK(fast.Quotient(number) == number / divisor);
    }
  }
}

}  // namespace

int main() {
  constexpr magvit_dtype kTypes[] = {MAGVIT_FLOAT32, MAGVIT_FLOAT16};
  TestFastDivisor();
  for (const magvit_dtype in : kTypes) {
    for (const magvit_dtype out : kTypes) {
      TestNormalization(Packed(in, 2, 3, 5, 7, 20), in, out, {false, false}, 4);
      for (const magvit_dtype sum : kTypes) {
        TestNormalization(Packed(in, 2, 3, 5, 7, 20), sum, out, {true, true}, 4);
        TestNormalization(Packed(in, 1, 2, 9, 4, 64), sum, out, {false, true}, 32);
        TestNormalization(Packed(in, 1, 1, 1, 1, 8), sum, out, {true, false}, 2);
        TestSum(Packed(in, 2, 3, 5, 7, 20), sum, out);
      }
    }
    // More positions than one round of blocks, and more channels than one block's columns.
    TestNormalization(Packed(in, 1, 5, 60, 60, 32), in, in, {false, true}, 8);
    magvit_cuda_map sparse = Packed(in, 2, 3, 5, 7, 20);
    sparse.pitch = 64;
    TestNormalization(sparse, in, in, {false, true}, 4);
    TestNormalization(Packed(in, 1, 1, 2, 3, 2100), in, in, {true, true}, 3);
    TestPixels(in, 3);
    TestPixels(in, 1);
    TestLfq(in, 18);
    TestLfq(in, 31);
  }
  TestBlocks();
  TestRefusals();
  return Verdict();
}
