// Maps for tests of the CUDA operators, in memory between guards.
#ifndef MAGVIT_TESTS_KERNELS_TEST_MAPS_H_
#define MAGVIT_TESTS_KERNELS_TEST_MAPS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "cuda_operators/map_checks.h"
#include "magvit/cuda_operators.h"
#include "tensor/half.h"
#include "tensor/shape.h"

namespace test_maps {

using magvit::Half;

// Elements of a map with its border.
inline int64_t Elements(const magvit_cuda_map& map) {
  int64_t count = map.batch * map.pitch;
  for (int i = 0; i < 3; ++i) count *= map.before[i] + map.sizes[i] + map.after[i];
  return count;
}

inline float Read(magvit_dtype dtype, const void* data, int64_t index) {
  if (dtype == MAGVIT_FLOAT32) return static_cast<const float*>(data)[index];
  return magvit::ToFloat(static_cast<const Half*>(data)[index]);
}

inline float Rounded(magvit_dtype dtype, float value) {
  return dtype == MAGVIT_FLOAT32 ? value : magvit::ToFloat(magvit::FromFloat<Half>(value));
}

inline void Write(magvit_dtype dtype, void* data, int64_t index, float value) {
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

inline magvit_cuda_map Packed(magvit_dtype dtype, int64_t batch, int64_t frames, int64_t height,
                              int64_t width, int64_t channels) {
  const int64_t pitch = magvit::DivideUp(channels, 8) * 8;
  return {nullptr, dtype, batch, {frames, height, width}, channels, pitch, {0, 0, 0}, {0, 0, 0}};
}

inline magvit_cuda_map Bordered(magvit_cuda_map map) {
  const int64_t before[] = {2, 1, 0}, after[] = {0, 2, 1};
  std::copy_n(before, 3, map.before);
  std::copy_n(after, 3, map.after);
  return map;
}

// Padding channels hold NaN, which no result may show.
inline void FillRandom(Map& features, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.5f, 2.0f);
  for (int64_t i = 0; i < Elements(features.map); ++i) {
    const bool padding = i % features.map.pitch >= features.map.channels;
    Write(features.map.dtype, features.map.data, i,
          padding ? std::numeric_limits<float>::quiet_NaN() : normal(generator));
  }
}

inline std::vector<float> RandomVector(int64_t size, unsigned seed) {
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
inline int64_t CountWrong(Map& found, const std::vector<float>& expected, float tolerance) {
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

}  // namespace test_maps

#endif  // MAGVIT_TESTS_KERNELS_TEST_MAPS_H_
