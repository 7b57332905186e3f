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
#include "test_maps.h"

namespace {

using namespace test_maps;
using magvit::Positions;

constexpr magvit_cuda_addends kNoAddends = {};

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
  CHECK(magvit_cuda_lfq(latents.map, found.data(), nullptr) == cudaSuccess);
  CHECK(magvit_cuda_channels_first(latents.map, values.data(), nullptr) == cudaSuccess);
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
