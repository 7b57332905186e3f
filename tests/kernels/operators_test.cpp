// The CPU operators through their C interface: layouts, padding, threads, in-place use and
// refusals. Their numbers are compared with NumPy and PyTorch in test_operators.py.
#include "magvit/operators.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "tensor/half.h"

namespace {

using magvit::Half;

constexpr int64_t kBatch = 2;
constexpr int64_t kChannels = 20;
constexpr int64_t kPositions = 7 * 5 * 3;
constexpr int64_t kPitch = 24;

const magvit_shape kFirst = {kBatch, kChannels, kPositions, MAGVIT_CHANNELS_FIRST, 0};
const magvit_shape kLast = {kBatch, kChannels, kPositions, MAGVIT_CHANNELS_LAST, kPitch};

template <typename T>
constexpr magvit_dtype kDtype = sizeof(T) == 2 ? MAGVIT_FLOAT16 : MAGVIT_FLOAT32;

template <typename T>
std::vector<T> RandomTensor(size_t size) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<T> values(size);
  for (T& value : values) value = magvit::FromFloat<T>(normal(generator));
  return values;
}

// [N, C, positions] to [N, positions, pitch]; the padding holds NaN, which nothing may pick up.
template <typename T>
std::vector<T> ToChannelsLast(const std::vector<T>& first) {
  const T nan = magvit::FromFloat<T>(std::numeric_limits<float>::quiet_NaN());
  std::vector<T> last(kBatch * kPositions * kPitch, nan);
  for (int64_t n = 0; n < kBatch; ++n) {
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t p = 0; p < kPositions; ++p) {
        last[(n * kPositions + p) * kPitch + c] = first[(n * kChannels + c) * kPositions + p];
      }
    }
  }
  return last;
}

template <typename T>
void TestLfqLayoutsAgree() {
  const std::vector<T> first = RandomTensor<T>(kBatch * kChannels * kPositions);
  const std::vector<T> last = ToChannelsLast(first);
  std::vector<int32_t> ids_first(kBatch * kPositions), ids_last(kBatch * kPositions);
  std::vector<uint8_t> packed(kBatch * kPositions * 3);
  CHECK(magvit_lfq(first.data(), kDtype<T>, kFirst, ids_first.data(), packed.data(), 1) ==
        MAGVIT_OK);
  CHECK(magvit_lfq(last.data(), kDtype<T>, kLast, ids_last.data(), nullptr, 3) == MAGVIT_OK);
  CHECK(ids_first == ids_last);
  for (size_t i = 0; i < ids_first.size(); ++i) {
    const int32_t joined = packed[3 * i] | packed[3 * i + 1] << 8 | packed[3 * i + 2] << 16;
    CHECK(joined == ids_first[i]);
  }
}

// The bit of every half equals the comparison in float that defines it.
void TestLfqOfEveryHalf() {
  std::vector<Half> latents(65536);
  for (size_t i = 0; i < latents.size(); ++i) latents[i].bits = static_cast<uint16_t>(i);
  std::vector<int32_t> ids(latents.size());
  const magvit_shape shape = {1, 1, 65536, MAGVIT_CHANNELS_FIRST, 0};
  CHECK(magvit_lfq(latents.data(), MAGVIT_FLOAT16, shape, ids.data(), nullptr, 1) == MAGVIT_OK);
  int wrong = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if ((ids[i] == 1) != (magvit::ToFloat(latents[i]) > 0.0f)) ++wrong;
  }
  CHECK(wrong == 0);
}

template <typename T>
void TestGroupNormLayoutsAgree() {
  const std::vector<T> first = RandomTensor<T>(kBatch * kChannels * kPositions);
  const std::vector<float> weight = RandomTensor<float>(kBatch * kChannels);
  const std::vector<float> bias = RandomTensor<float>(kBatch * kChannels);
  const magvit_group_norm_options options = {4, 1e-6f, weight.data(), bias.data(), 1, MAGVIT_SILU};
  std::vector<T> out_first(first.size());
  std::vector<T> out_last = ToChannelsLast(first);
  CHECK(magvit_group_norm(first.data(), kDtype<T>, kFirst, &options, out_first.data(), 1) ==
        MAGVIT_OK);
  CHECK(magvit_group_norm(out_last.data(), kDtype<T>, kLast, &options, out_last.data(), 1) ==
        MAGVIT_OK);
  const std::vector<T> expected = ToChannelsLast(out_first);
  const float tolerance = sizeof(T) == 2 ? 1e-3f : 1e-6f;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float found = magvit::ToFloat(out_last[i]);
    if (static_cast<int64_t>(i) % kPitch >= kChannels) {
      CHECK(found == 0.0f);
    } else {
      const float wanted = magvit::ToFloat(expected[i]);
      CHECK(std::fabs(found - wanted) <= tolerance * (1.0f + std::fabs(wanted)));
    }
  }
}

void TestThreadsChangeNothing() {
  const magvit_shape shape = {1, 8, 100003, MAGVIT_CHANNELS_FIRST, 0};
  const std::vector<float> input = RandomTensor<float>(8 * 100003);
  const magvit_group_norm_options options = {2, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU};
  std::vector<float> one(input.size()), many(input.size());
  CHECK(magvit_group_norm(input.data(), MAGVIT_FLOAT32, shape, &options, one.data(), 1) ==
        MAGVIT_OK);
  CHECK(magvit_group_norm(input.data(), MAGVIT_FLOAT32, shape, &options, many.data(), 5) ==
        MAGVIT_OK);
  CHECK(one == many);
}

void TestRefusals() {
  std::vector<float> data(64);
  std::vector<int32_t> ids(64);
  const magvit_shape good = {1, 4, 16, MAGVIT_CHANNELS_FIRST, 0};
  magvit_shape shape = good;
  shape.channels = 32;
  CHECK(magvit_lfq(data.data(), MAGVIT_FLOAT32, shape, ids.data(), nullptr, 1) ==
        MAGVIT_BAD_CHANNELS);
  shape = good;
  shape.positions = -1;
  CHECK(magvit_lfq(data.data(), MAGVIT_FLOAT32, shape, ids.data(), nullptr, 1) == MAGVIT_BAD_SHAPE);
  CHECK(magvit_lfq(nullptr, MAGVIT_FLOAT32, good, ids.data(), nullptr, 1) == MAGVIT_NULL_POINTER);
  CHECK(magvit_lfq(data.data(), static_cast<magvit_dtype>(9), good, ids.data(), nullptr, 1) ==
        MAGVIT_BAD_ENUM);
  shape = good;
  shape.batch = 0;
  CHECK(magvit_lfq(nullptr, MAGVIT_FLOAT32, shape, nullptr, nullptr, 1) == MAGVIT_OK);

  const auto normalize = [&](magvit_group_norm_options options) {
    return magvit_group_norm(data.data(), MAGVIT_FLOAT32, good, &options, data.data(), 1);
  };
  CHECK(normalize({3, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU}) == MAGVIT_BAD_GROUPS);
  CHECK(normalize({0, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU}) == MAGVIT_BAD_GROUPS);
  CHECK(normalize({2, -1.0f, nullptr, nullptr, 0, MAGVIT_SILU}) == MAGVIT_BAD_EPSILON);
  CHECK(normalize({2, NAN, nullptr, nullptr, 0, MAGVIT_SILU}) == MAGVIT_BAD_EPSILON);
  CHECK(normalize({2, 1e-6f, data.data(), nullptr, 0, MAGVIT_SILU}) == MAGVIT_NULL_POINTER);
  shape = {1, 20, 16, MAGVIT_CHANNELS_LAST, 16};
  const magvit_group_norm_options options = {2, 1e-6f, nullptr, nullptr, 0, MAGVIT_SILU};
  CHECK(magvit_group_norm(data.data(), MAGVIT_FLOAT32, shape, &options, data.data(), 1) ==
        MAGVIT_BAD_SHAPE);
}

void TestHalfRoundTrip() {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = magvit::ToFloat(Half{static_cast<uint16_t>(bits)});
    const uint16_t back = magvit::FromFloat<Half>(value).bits;
    const bool nan = (bits & 0x7fff) > 0x7c00;
    if (nan ? (back & 0x7fff) <= 0x7c00 || value == value : back != bits) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(magvit::FromFloat<Half>(65519.0f).bits == 0x7bff);
  CHECK(magvit::FromFloat<Half>(65520.0f).bits == 0x7c00);
  CHECK(magvit::FromFloat<Half>(1.00048828125f).bits == 0x3c00);  // a tie goes to even
  CHECK(magvit::FromFloat<Half>(1.00146484375f).bits == 0x3c02);
  CHECK(magvit::FromFloat<Half>(2.9802322e-8f).bits == 0x0000);  // half of the smallest
  CHECK(magvit::FromFloat<Half>(2.9802326e-8f).bits == 0x0001);
}

}  // namespace

int main() {
  TestLfqLayoutsAgree<float>();
  TestLfqLayoutsAgree<Half>();
  TestLfqOfEveryHalf();
  TestGroupNormLayoutsAgree<float>();
  TestGroupNormLayoutsAgree<Half>();
  TestThreadsChangeNothing();
  TestRefusals();
  TestHalfRoundTrip();
  CHECK(magvit_operators_abi() == MAGVIT_OPERATORS_ABI);
  return Verdict();
}
