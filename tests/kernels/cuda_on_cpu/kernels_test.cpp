// The CUDA kernels, run on the CPU, against the CPU operators: every layout, type and way of access
// (vectors and, for odd sizes or addresses, single elements), padding, and workspace limits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../check.h"
#include "codebook/codebook_cuda.h"
#include "cuda_on_cpu.h"
#include "group_norm_silu/group_norm_cuda.h"
#include "lfq/lfq_cuda.h"
#include "magvit/operators.h"
#include "tensor/half.h"
#include "tensor/shape.h"

namespace {

using magvit::Half;

template <typename T>
constexpr magvit_dtype kDtype = sizeof(T) == 2 ? MAGVIT_FLOAT16 : MAGVIT_FLOAT32;

// Memory at an address that is a multiple of 256 bytes, as cudaMalloc's, or one element beyond it.
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t size, bool misaligned = false)
      : memory_(size * sizeof(T) + 512), size_(size) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    data_ = reinterpret_cast<T*>((address + 255) / 256 * 256) + (misaligned ? 1 : 0);
  }
  T* data() { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t index) { return data_[index]; }

 private:
  std::vector<char> memory_;
  T* data_;
  size_t size_;
};

int64_t Row(const magvit_shape& shape) {
  return shape.layout == MAGVIT_CHANNELS_LAST ? magvit::ChannelPitch(shape) : shape.channels;
}

// Padding holds NaN, which no result may show.
template <typename T>
void FillRandom(Buffer<T>& buffer, const magvit_shape& shape) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0.5f, 2.0f);
  const int64_t row = Row(shape);
  for (size_t i = 0; i < buffer.size(); ++i) {
    const bool padding =
        shape.layout == MAGVIT_CHANNELS_LAST && static_cast<int64_t>(i) % row >= shape.channels;
    buffer[i] =
        magvit::FromFloat<T>(padding ? std::numeric_limits<float>::quiet_NaN() : normal(generator));
  }
}

// The shape with the padding that TensorRT gives this type: (D)HWC8 for fp16, (D)HWC for fp32.
template <typename T>
magvit_shape WithLayout(int64_t batch, int64_t channels, int64_t positions, magvit_layout layout) {
  const int64_t vector = sizeof(T) == 2 ? 8 : 1;
  return {batch, channels, positions, layout, magvit::DivideUp(channels, vector) * vector};
}

template <typename T>
void TestLfq(const magvit_shape& shape, bool misaligned) {
  const size_t positions = shape.batch * shape.positions;
  const size_t packed_bytes = positions * ((shape.channels + 7) / 8);
  Buffer<T> latents(positions * Row(shape), misaligned);
  FillRandom(latents, shape);
  Buffer<int32_t> found(positions);
  std::vector<int32_t> expected(positions);
  std::vector<uint8_t> found_packed(packed_bytes), expected_packed(packed_bytes);
  CHECK(magvit::LaunchLfq(latents.data(), kDtype<T>, shape, found.data(), found_packed.data(),
                          nullptr) == cudaSuccess);
  CHECK(magvit_lfq(latents.data(), kDtype<T>, shape, expected.data(), expected_packed.data(), 1) ==
        MAGVIT_OK);
  CHECK(std::equal(expected.begin(), expected.end(), found.data()));
  CHECK(found_packed == expected_packed);
}

// Rows are few distinct ones, so that there are ties within tiles and between them.
template <typename T>
void TestCodebook(const magvit_shape& shape, int64_t rows, bool misaligned) {
  const size_t positions = shape.batch * shape.positions;
  Buffer<T> latents(positions * Row(shape), misaligned);
  FillRandom(latents, shape);
  std::vector<float> codebook(rows * shape.channels);
  for (size_t i = 0; i < codebook.size(); ++i) {
    codebook[i] = static_cast<float>((i / shape.channels * 7 % 97 + i % shape.channels * 3) % 11);
  }
  // A NaN is above all others.
  if (rows > 70) codebook[69 * shape.channels] = std::numeric_limits<float>::quiet_NaN();
  std::vector<int32_t> found(positions), expected(positions);
  std::vector<float> found_margins(positions), margins(positions);
  std::vector<char> workspace(magvit::CodebookWorkspaceBytes(shape));
  for (int repetition = 0; repetition < 2; ++repetition) {
    CHECK(magvit::LaunchCodebookArgmax(latents.data(), kDtype<T>, shape, codebook.data(), rows,
                                       found.data(), found_margins.data(), workspace.data(),
                                       nullptr) == cudaSuccess);
    CHECK(magvit_codebook_argmax(latents.data(), kDtype<T>, shape, codebook.data(), rows,
                                 expected.data(), margins.data(), 1) == MAGVIT_OK);
    int wrong = 0;
    for (size_t i = 0; i < positions; ++i) {
      const float margin = found_margins[i];
      const bool is_same = std::isnan(margin) ? std::isnan(margins[i]) : margin == margins[i];
      if (!is_same && !(std::fabs(margin - margins[i]) <= 1e-3f)) ++wrong;
      // Sums of another order may decide otherwise where nothing is to decide.
      if (found[i] != expected[i] && !(margins[i] <= 1e-3f)) ++wrong;
    }
    CHECK(wrong == 0);
    // Once more without NaN.
    if (rows > 70) codebook[69 * shape.channels] = 0.0f;
  }
}

enum class Affine { kNone, kPerChannel, kPerSample };

template <typename T>
void TestGroupNorm(const magvit_shape& shape, int64_t groups, Affine affine,
                   magvit_activation activation, bool misaligned) {
  constexpr size_t kGuard = 64;
  Buffer<T> input(shape.batch * shape.positions * Row(shape), misaligned);
  Buffer<T> found(input.size(), misaligned), expected(input.size());
  FillRandom(input, shape);
  Buffer<float> weight(shape.batch * shape.channels), bias(weight.size());
  const magvit_shape flat = {1, 1, static_cast<int64_t>(weight.size()), MAGVIT_CHANNELS_FIRST, 0};
  FillRandom(weight, flat);
  FillRandom(bias, flat);
  magvit_group_norm_options options = {groups, 1e-6f, nullptr, nullptr, 0, activation};
  if (affine != Affine::kNone) {
    options.weight = weight.data();
    options.bias = bias.data();
    options.affine_per_sample = affine == Affine::kPerSample ? 1 : 0;
  }

  const size_t bytes = magvit::GroupNormWorkspaceBytes(shape, groups);
  Buffer<char> workspace(bytes + kGuard);
  std::fill_n(workspace.data(), bytes + kGuard, 'g');
  CHECK(magvit::LaunchGroupNorm(input.data(), kDtype<T>, shape, options, found.data(),
                                workspace.data(), nullptr) == cudaSuccess);
  CHECK(std::count(workspace.data() + bytes, workspace.data() + bytes + kGuard, 'g') == kGuard);
  CHECK(magvit_group_norm(input.data(), kDtype<T>, shape, &options, expected.data(), 1) ==
        MAGVIT_OK);

  const float tolerance = sizeof(T) == 2 ? 1e-3f : 2e-6f;
  size_t wrong = 0;
  for (size_t i = 0; i < input.size(); ++i) {
    const float wanted = magvit::ToFloat(expected[i]);
    const float error = std::fabs(magvit::ToFloat(found[i]) - wanted);
    if (!(error <= tolerance * (1.0f + std::fabs(wanted)))) ++wrong;
  }
  if (wrong != 0) {
    std::fprintf(stderr, "%zu wrong: C %d, positions %d, groups %d, layout %d, misaligned %d\n",
                 wrong, static_cast<int>(shape.channels), static_cast<int>(shape.positions),
                 static_cast<int>(groups), shape.layout, misaligned);
  }
  CHECK(wrong == 0);
}

template <typename T>
void TestAll(magvit_layout layout, bool misaligned) {
  const auto shape = [&](int64_t batch, int64_t channels, int64_t positions) {
    return WithLayout<T>(batch, channels, positions, layout);
  };
  TestLfq<T>(shape(2, 18, 5 * 16 * 16), misaligned);
  TestLfq<T>(shape(3, 31, 77), misaligned);
  TestLfq<T>(shape(1, 1, 1), misaligned);
  TestCodebook<T>(shape(2, 24, 5 * 7), 1000, misaligned);
  TestCodebook<T>(shape(1, 8, 65), 64, misaligned);
  TestCodebook<T>(shape(3, 33, 1), 65, misaligned);
  TestCodebook<T>(shape(1, 1, 1), 1, misaligned);

  const auto group_norm = [&](const magvit_shape& tensor, int64_t groups, Affine affine,
                              magvit_activation activation) {
    TestGroupNorm<T>(tensor, groups, affine, activation, misaligned);
  };
  group_norm(shape(1, 512, 80), 32, Affine::kPerChannel, MAGVIT_SILU);
  group_norm(shape(2, 32, 17 * 24 * 24), 4, Affine::kPerSample, MAGVIT_SILU);
  group_norm(shape(3, 20, 77), 4, Affine::kPerSample, MAGVIT_SILU);
  group_norm(shape(1, 33, 45), 11, Affine::kPerChannel, MAGVIT_NO_ACTIVATION);
  group_norm(shape(1, 6, 1), 2, Affine::kNone, MAGVIT_SILU);
  // More channels than one block's columns, with groups across the tiles' borders.
  group_norm(shape(1, 2100, 5), 3, Affine::kNone, MAGVIT_NO_ACTIVATION);
}

// Every layout, type and alignment.
void TestEverywhere() {
  for (magvit_layout layout : {MAGVIT_CHANNELS_FIRST, MAGVIT_CHANNELS_LAST}) {
    for (bool misaligned : {false, true}) {
      TestAll<float>(layout, misaligned);
      TestAll<Half>(layout, misaligned);
    }
  }
}

}  // namespace

int main() {
  // The blocks of an H100, and so few that each takes many steps.
  for (const int64_t resident : {132 * 3, 5}) {
    cuda_on_cpu::resident_blocks = resident;
    TestEverywhere();
  }
  return Verdict();
}
