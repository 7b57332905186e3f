// The CUDA operators of decoders and of encoders with a codebook, run on the CPU, against the CPU
// operators and plain loops: every pair of types, borders, odd sizes, padded channels, and what
// they refuse.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../check.h"
#include "cuda_on_cpu.h"
#include "magvit/cuda_operators.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/shape.h"
#include "test_maps.h"

namespace {

using namespace test_maps;
using magvit::Positions;

constexpr magvit_dtype kTypes[] = {MAGVIT_FLOAT32, MAGVIT_FLOAT16};

int64_t Count(const magvit_cuda_map& map) { return map.batch * Positions(map); }

std::vector<int32_t> RandomIds(int64_t count, int32_t below, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(generator() % static_cast<uint32_t>(below));
  }
  return ids;
}

// A map of the CPU operators: the values of one sample, on a 64-byte boundary, padding zero.
class CpuMap {
 public:
  explicit CpuMap(const magvit_cuda_map& like)
      : pitch_(magvit::DivideUp(like.channels, 16) * 16),
        memory_(Positions(like) * pitch_ + 16),
        view_{} {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    view_.values = memory_.data() + (64 - address % 64) % 64 / 4;
    view_.frames = like.sizes[0];
    view_.height = like.sizes[1];
    view_.width = like.sizes[2];
    view_.channels = like.channels;
    view_.channel_pitch = pitch_;
  }
  CpuMap(const CpuMap&) = delete;
  CpuMap& operator=(const CpuMap&) = delete;

  float& At(int64_t position, int64_t channel) { return view_.values[position * pitch_ + channel]; }
  const magvit_feature_map* view() const { return &view_; }

  // Takes a sample of a map without a border, and what is added to it.
  void Read(Map& source, int64_t sample, const float* bias) {
    for (int64_t i = 0; i < Positions(source.map); ++i) {
      for (int64_t c = 0; c < source.map.channels; ++c) {
        At(i, c) = source.At((sample * Positions(source.map) + i) * source.map.pitch + c) +
                   (bias != nullptr ? bias[c] : 0.0f);
      }
    }
  }

  // Appends its values, laid out as `like` without a border.
  void AppendTo(std::vector<float>& values, const magvit_cuda_map& like) {
    for (int64_t i = 0; i < Positions(like); ++i) {
      for (int64_t c = 0; c < like.pitch; ++c) {
        values.push_back(c < like.channels ? Rounded(like.dtype, At(i, c)) : 0.0f);
      }
    }
  }

 private:
  int64_t pitch_;
  std::vector<float> memory_;
  magvit_feature_map view_;
};

struct Pool {
  magvit_pool* handle = magvit_pool_create(1);
  ~Pool() { magvit_pool_destroy(handle); }
};

void TestCodes(magvit_dtype dtype, int64_t bits) {
  Map output(Bordered(Packed(dtype, 2, 3, 5, 7, bits)));
  const std::vector<int32_t> ids = RandomIds(Count(output.map), 0x7fffffff, 1);
  CHECK(magvit_cuda_lfq_codes(ids.data(), output.map, nullptr) == cudaSuccess);
  std::vector<float> expected;
  for (const int32_t id : ids) {
    for (int64_t c = 0; c < output.map.pitch; ++c) {
      expected.push_back(static_cast<float>(id >> (c & 31) & 1) * 2.0f - 1.0f);
    }
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
}

void TestRows(magvit_dtype dtype, int64_t channels) {
  constexpr int64_t kRows = 50;
  Map output(Bordered(Packed(dtype, 2, 1, 5, 7, channels)));
  std::vector<int32_t> ids = RandomIds(Count(output.map), kRows, 2);
  Map codebook(Packed(MAGVIT_FLOAT32, 1, 1, 1, kRows, channels));
  FillRandom(codebook, 3);
  const auto* rows = static_cast<const float*>(codebook.map.data);
  const auto run = [&] {
    return magvit_cuda_codebook_rows(ids.data(), rows, kRows, output.map, nullptr);
  };
  CHECK(run() == cudaSuccess);
  std::vector<float> expected;
  for (const int32_t id : ids) {
    for (int64_t c = 0; c < output.map.pitch; ++c) {
      expected.push_back(Rounded(dtype, rows[id * output.map.pitch + c]));
    }
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
  // Ids that are no rows are no addresses either.
  ids.front() = kRows;
  ids.back() = std::numeric_limits<int32_t>::min();
  CHECK(run() == cudaSuccess);
  std::vector<bool> is_nan;
  ForEach(output.map, [&](int64_t, int64_t place, int64_t channel) {
    if (channel < channels) is_nan.push_back(std::isnan(output.At(place)));
  });
  CHECK(std::count(is_nan.begin(), is_nan.end(), true) == 2 * channels);
  CHECK(is_nan.front() && is_nan.back());
}

void TestDepthToSpace(magvit_dtype in, magvit_dtype out, int64_t channels,
                      const int64_t (&block)[3], bool has_border) {
  const int64_t parts = block[0] * block[1] * block[2];
  Map features(Packed(in, 2, 3, 2, 5, parts * channels));
  FillRandom(features, 4);
  Map aligned(Packed(MAGVIT_FLOAT32, 1, 1, 1, 1, parts * channels));
  FillRandom(aligned, 5);
  const auto* bias = static_cast<const float*>(aligned.map.data);
  std::vector<float> elsewhere(parts * channels + 9);
  float* crooked = elsewhere.data() + (magvit::IsAligned(elsewhere.data(), 32) ? 1 : 0);
  std::copy_n(bias, parts * channels, crooked);
  const magvit_cuda_map packed =
      Packed(out, 2, 2 * block[0] + 1, 2 * block[1], 5 * block[2], channels);
  Map output(has_border ? Bordered(packed) : packed);
  const Pool pool;
  for (const float* added :
       {bias, static_cast<const float*>(crooked), static_cast<const float*>(nullptr)}) {
    CHECK(magvit_cuda_depth_to_space(features.map, added, block, output.map, nullptr) ==
          cudaSuccess);
    std::vector<float> expected;
    for (int64_t sample = 0; sample < 2; ++sample) {
      CpuMap coarse(features.map), fine(packed);
      coarse.Read(features, sample, added);
      CHECK(magvit_depth_to_space_run(coarse.view(), block, fine.view(), pool.handle) == MAGVIT_OK);
      fine.AppendTo(expected, packed);
    }
    CHECK(CountWrong(output, expected, 0.0f) == 0);
    CHECK(output.memory.IsIntact());
  }
}

void TestRepetition(magvit_dtype in, magvit_dtype out, int64_t channels) {
  Map features(Packed(in, 2, 2, 3, 4, channels));
  FillRandom(features, 6);
  Map output(Bordered(Packed(out, 2, 2, 6, 12, channels)));
  CHECK(magvit_cuda_repeat(features.map, 2, 3, output.map, nullptr) == cudaSuccess);
  std::vector<float> expected;
  for (int64_t frame = 0; frame < 4; ++frame) {
    for (int64_t y = 0; y < 6; ++y) {
      for (int64_t x = 0; x < 12; ++x) {
        const int64_t from = ((frame * 3 + y / 2) * 4 + x / 3) * features.map.pitch;
        for (int64_t c = 0; c < features.map.pitch; ++c) {
          expected.push_back(Rounded(out, features.At(from + c)));
        }
      }
    }
  }
  CHECK(CountWrong(output, expected, 0.0f) == 0);
  CHECK(output.memory.IsIntact());
}

void TestChannelVectors(const magvit_cuda_map& shape, int64_t outputs, bool is_constant) {
  Map map(shape);
  FillRandom(map, 7);
  if (is_constant) {
    for (int64_t i = 0; i < Elements(shape); ++i) Write(shape.dtype, map.map.data, i, 1.0f);
  }
  const int64_t channels = shape.channels;
  const std::vector<float> weights = RandomVector(2 * outputs * channels, 8);
  const std::vector<float> bias = RandomVector(2 * outputs, 9);
  std::vector<float> found(2 * shape.batch * outputs);
  magvit_cuda_channel_statistic scale = {1, 1e-6f, weights.data(), bias.data(), found.data()};
  magvit_cuda_channel_statistic shift = {0, 0.0f, weights.data() + outputs * channels,
                                         bias.data() + outputs,
                                         found.data() + shape.batch * outputs};
  CHECK(magvit_cuda_channel_vectors(map.map, scale, shift, outputs, nullptr) == cudaSuccess);
  const int64_t positions = Positions(shape);
  for (int64_t sample = 0; sample < shape.batch; ++sample) {
    std::vector<double> spread(channels), mean(channels);
    for (int64_t c = 0; c < channels; ++c) {
      const auto at = [&](int64_t i) { return map.At((sample * positions + i) * shape.pitch + c); };
      double squares = 0.0;
      for (int64_t i = 0; i < positions; ++i) mean[c] += at(i) / static_cast<double>(positions);
      for (int64_t i = 0; i < positions; ++i) squares += std::pow(at(i) - mean[c], 2);
      spread[c] = std::sqrt(squares / std::max<int64_t>(positions - 1, 1) + 1e-6);
    }
    for (int64_t i = 0; i < outputs; ++i) {
      double first = bias[i], second = bias[outputs + i];
      for (int64_t c = 0; c < channels; ++c) {
        first += weights[i * channels + c] * spread[c];
        second += weights[(outputs + i) * channels + c] * mean[c];
      }
      CHECK(std::fabs(found[sample * outputs + i] - first) <= 1e-5 * (1 + std::fabs(first)));
      const float shifted = found[(shape.batch + sample) * outputs + i];
      CHECK(std::fabs(shifted - second) <= 1e-5 * (1 + std::fabs(second)));
    }
  }
  // One of the two alone leaves the other's vectors as they are.
  std::vector<float> kept = found;
  std::fill(found.begin(), found.end(), -7.0f);
  scale.weight = nullptr;
  CHECK(magvit_cuda_channel_vectors(map.map, scale, shift, outputs, nullptr) == cudaSuccess);
  std::fill_n(kept.begin(), shape.batch * outputs, -7.0f);
  CHECK(found == kept);
}

void TestAttention(const magvit_cuda_map& shape, magvit_dtype out, bool has_bias, float scale) {
  Map queries(shape), keys(shape), values(shape);
  FillRandom(queries, 10);
  FillRandom(keys, 11);
  FillRandom(values, 12);
  for (int64_t i = 0; i < Elements(shape); ++i) {
    Write(shape.dtype, queries.map.data, i, scale * queries.At(i));
  }
  const std::vector<float> bias = RandomVector(3 * shape.channels, 13);
  magvit_cuda_attention_biases biases = {};
  if (has_bias) {
    biases = {bias.data(), bias.data() + shape.channels, bias.data() + 2 * shape.channels};
  }
  magvit_cuda_map out_shape = shape;
  out_shape.dtype = out;
  Map output(out_shape);
  Memory workspace(magvit_cuda_attention_workspace_bytes(queries.map));
  // What an earlier run left there counts for nothing.
  std::fill_n(static_cast<char*>(workspace.data()),
              magvit_cuda_attention_workspace_bytes(queries.map), '\xff');
  CHECK(magvit_cuda_attention(queries.map, keys.map, values.map, biases, output.map,
                              workspace.data(), nullptr) == cudaSuccess);
  CHECK(workspace.IsIntact() && output.memory.IsIntact());
  const Pool pool;
  std::vector<float> expected;
  for (int64_t sample = 0; sample < shape.batch; ++sample) {
    CpuMap q(shape), k(shape), v(shape), mixed(shape);
    q.Read(queries, sample, biases.queries);
    k.Read(keys, sample, biases.keys);
    v.Read(values, sample, biases.values);
    CHECK(magvit_attention_run(q.view(), k.view(), v.view(), mixed.view(), pool.handle) ==
          MAGVIT_OK);
    mixed.AppendTo(expected, out_shape);
  }
  const float rounding = out == MAGVIT_FLOAT16 ? 1e-3f : 2e-5f;
  CHECK(CountWrong(output, expected, rounding * std::max(1.0f, scale)) == 0);
}

void TestCodebook(magvit_dtype dtype, int64_t channels, int64_t rows) {
  Map latents(Packed(dtype, 2, 1, 5, 7, channels));
  FillRandom(latents, 14);
  const std::vector<float> codebook = RandomVector(rows * channels, 15);
  const int64_t count = Count(latents.map);
  std::vector<int32_t> found(count), expected(count);
  std::vector<float> margins(count), expected_margins(count);
  Memory workspace(magvit_cuda_codebook_workspace_bytes(latents.map));
  CHECK(magvit_cuda_codebook_argmax(latents.map, codebook.data(), rows, found.data(),
                                    margins.data(), workspace.data(), nullptr) == cudaSuccess);
  CHECK(workspace.IsIntact());
  CHECK(magvit_codebook_argmax(latents.map.data, dtype, magvit::AsShape(latents.map),
                               codebook.data(), rows, expected.data(), expected_margins.data(),
                               1) == MAGVIT_OK);
  for (int64_t i = 0; i < count; ++i) {
    CHECK(std::fabs(margins[i] - expected_margins[i]) <= 1e-3f);
    CHECK(found[i] == expected[i] || expected_margins[i] <= 1e-3f);
  }
}

// Floats about every border between two bytes, and what is no number.
void TestBytes(magvit_dtype dtype, bool has_bias) {
  const magvit_cuda_rounding rule = {-1.0f, 1.0f, 1.0f, 127.5f, 0.5f};
  Map features(Packed(dtype, 2, 3, 16, 16, 3));
  FillRandom(features, 16);
  int64_t border = 0;
  for (int64_t i = 0; i < Elements(features.map); i += 2) {
    const float value = (static_cast<float>(border++ % 256) + 0.5f) / 127.5f - 1.0f;
    Write(dtype, features.map.data, i, value);
  }
  const float infinite = std::numeric_limits<float>::infinity();
  const float special[] = {std::numeric_limits<float>::quiet_NaN(), infinite, -infinite};
  for (int i = 0; i < 3; ++i) Write(dtype, features.map.data, i, special[i]);
  const std::vector<float> bias = {0.25f, -0.125f, 0.0f};
  std::vector<uint8_t> found(Count(features.map) * 3);
  CHECK(magvit_cuda_bytes(features.map, has_bias ? bias.data() : nullptr, rule, found.data(),
                          nullptr) == cudaSuccess);
  int64_t wrong = 0;
  for (int64_t i = 0; i < Count(features.map); ++i) {
    for (int64_t c = 0; c < 3; ++c) {
      const float value = features.At(i * features.map.pitch + c) + (has_bias ? bias[c] : 0.0f);
      const float clipped = value > -1.0f ? std::min(value, 1.0f) : -1.0f;
      const float scaled = (clipped + 1.0f) * 127.5f;
      if (found[i * 3 + c] != static_cast<uint8_t>(std::floor(scaled + 0.5f))) ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(found[0] == 0 && found[1] == 255 && found[2] == 0);
}

void TestRefusals() {
  Map map(Packed(MAGVIT_FLOAT32, 1, 3, 4, 4, 16)), half(Packed(MAGVIT_FLOAT16, 1, 3, 4, 4, 16));
  Map finer(Packed(MAGVIT_FLOAT32, 1, 5, 8, 8, 2)), wide(Packed(MAGVIT_FLOAT32, 1, 3, 4, 4, 264));
  Map bordered(Bordered(map.map));
  const int64_t block[] = {2, 2, 2}, none[] = {0, 2, 2}, other[] = {1, 2, 2};
  const auto depth_to_space = [&](const magvit_cuda_map& from, const int64_t* by) {
    return magvit_cuda_depth_to_space(from, nullptr, by, finer.map, nullptr);
  };
  CHECK(depth_to_space(map.map, block) == cudaSuccess);
  CHECK(depth_to_space(map.map, none) == cudaErrorInvalidValue);
  CHECK(depth_to_space(map.map, other) == cudaErrorInvalidValue);
  CHECK(depth_to_space(map.map, nullptr) == cudaErrorInvalidValue);
  CHECK(depth_to_space(wide.map, block) == cudaErrorInvalidValue);
  CHECK(depth_to_space(bordered.map, block) == cudaErrorInvalidValue);
  CHECK(magvit_cuda_repeat(map.map, 1, 1, map.map, nullptr) == cudaSuccess);
  CHECK(magvit_cuda_repeat(map.map, 2, 2, map.map, nullptr) == cudaErrorInvalidValue);
  CHECK(magvit_cuda_repeat(map.map, 1, 1, wide.map, nullptr) == cudaErrorInvalidValue);

  const std::vector<int32_t> ids(Count(wide.map));
  CHECK(magvit_cuda_lfq_codes(ids.data(), wide.map, nullptr) == cudaErrorInvalidValue);
  CHECK(magvit_cuda_lfq_codes(nullptr, map.map, nullptr) == cudaErrorInvalidValue);
  const auto* rows = static_cast<const float*>(wide.map.data);
  CHECK(magvit_cuda_codebook_rows(ids.data(), rows, 2, map.map, nullptr) == cudaSuccess);
  CHECK(magvit_cuda_codebook_rows(ids.data(), rows, 0, map.map, nullptr) == cudaErrorInvalidValue);
  CHECK(magvit_cuda_codebook_rows(ids.data(), rows + 4, 2, map.map, nullptr) ==
        cudaErrorInvalidValue);

  std::vector<float> numbers(264 * 8);
  const magvit_cuda_channel_statistic statistic = {1, 1e-6f, numbers.data(), numbers.data(),
                                                   numbers.data()};
  magvit_cuda_channel_statistic unbiased = statistic;
  unbiased.bias = nullptr;
  const auto vectors = [&](const magvit_cuda_map& of, const magvit_cuda_channel_statistic& one) {
    return magvit_cuda_channel_vectors(of, one, one, 4, nullptr);
  };
  CHECK(vectors(map.map, statistic) == cudaSuccess);
  CHECK(vectors(wide.map, statistic) == cudaErrorInvalidValue);
  CHECK(vectors(bordered.map, statistic) == cudaErrorInvalidValue);
  CHECK(vectors(map.map, unbiased) == cudaErrorInvalidValue);

  Memory workspace(magvit_cuda_attention_workspace_bytes(map.map));
  const auto attend = [&](const magvit_cuda_map& keys, void* memory) {
    return magvit_cuda_attention(map.map, keys, map.map, {}, wide.map, memory, nullptr);
  };
  CHECK(attend(map.map, workspace.data()) == cudaErrorInvalidValue);  // another width
  const auto attend_alike = [&](const magvit_cuda_map& keys, void* memory) {
    return magvit_cuda_attention(map.map, keys, map.map, {}, map.map, memory, nullptr);
  };
  CHECK(attend_alike(half.map, workspace.data()) == cudaErrorInvalidValue);
  CHECK(attend_alike(bordered.map, workspace.data()) == cudaErrorInvalidValue);
  CHECK(attend_alike(map.map, nullptr) == cudaErrorInvalidValue);

  std::vector<uint8_t> frames(Count(wide.map) * 264);
  const magvit_cuda_rounding rule = {};
  CHECK(magvit_cuda_bytes(map.map, nullptr, rule, frames.data(), nullptr) ==
        cudaErrorInvalidValue);  // more channels than colours
  CHECK(magvit_cuda_channels_first(bordered.map, numbers.data(), nullptr) == cudaErrorInvalidValue);
  std::vector<int32_t> found(Count(map.map));
  CHECK(magvit_cuda_codebook_argmax(map.map, numbers.data(), 0, found.data(), nullptr,
                                    workspace.data(), nullptr) == cudaErrorInvalidValue);
}

}  // namespace

int main() {
  for (const magvit_dtype in : kTypes) {
    for (const int64_t bits : {18, 31, 8}) TestCodes(in, bits);
    for (const int64_t channels : {16, 20}) TestRows(in, channels);
    for (const magvit_dtype out : kTypes) {
      for (const int64_t channels : {8, 3, 20}) {
        TestDepthToSpace(in, out, channels, {2, 2, 2}, true);
        TestDepthToSpace(in, out, channels, {1, 2, 2}, false);
        TestDepthToSpace(in, out, channels, {3, 1, 2}, true);
        TestRepetition(in, out, channels);
      }
      TestAttention(Packed(in, 2, 1, 5, 7, 20), out, true, 1.0f);
      TestAttention(Packed(in, 1, 2, 8, 8, 72), out, false, 1.0f);
      TestAttention(Packed(in, 1, 1, 1, 1, 8), out, true, 1.0f);
    }
    // Products of some hundreds, whose exponentials would overflow.
    TestAttention(Packed(in, 1, 1, 6, 6, 64), in, true, 30.0f);
    TestChannelVectors(Packed(in, 2, 5, 4, 4, 18), 300, false);
    TestChannelVectors(Packed(in, 1, 1, 1, 1, 18), 8, false);
    TestChannelVectors(Packed(in, 3, 1, 7, 5, 256), 16, false);
    TestChannelVectors(Packed(in, 1, 2, 4, 4, 14), 8, true);
    TestCodebook(in, 20, 700);
    TestCodebook(in, 256, 64);
    for (const bool has_bias : {false, true}) TestBytes(in, has_bias);
  }
  TestRefusals();
  return Verdict();
}
