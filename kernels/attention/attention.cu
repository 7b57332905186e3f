// Attention on the GPU, in float32: one kernel multiplies queries with keys, the other one takes
// the softmax of the products while it multiplies them with the values.
//
// Both multiply tiles in shared memory by ordinary multiply-adds: cuDNN's fused attention doesn't
// take 512 channels, and tensor cores would round the softmax's weights. A released image has 256
// positions of 512 channels, which is 134 MFLOP beside some 300,000 in the convs, in 64 blocks and
// then 128. By the count of its instructions that is 15 us on an H100, for one image or four (not
// measured). The products are 256 KB an image, which stay in the second-level cache.
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cuda_operators/map_views.h"
#include "magvit/cuda_operators.h"
#include "tensor/exponential.h"
#include "tensor/launch.cuh"
#include "tensor/shape.h"
#include "tensor/vector_access.cuh"

namespace magvit {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 32;  // of queries, and of keys or channels; also what one step sums over
constexpr int kRows = 2;   // of a thread
constexpr int kColumns = 4;
constexpr int kColumnThreads = kTile / kColumns;
// Threads that load a row of a tile, a vector each.
constexpr int kLoaders = kTile / kMapVector;
// From one row of a tile to the next; whole vectors of `kColumns`.
constexpr int kPitch = kTile + 4;
static_assert(kThreads == kTile / kRows * kColumnThreads && kThreads == kTile * kLoaders);

struct alignas(16) Tile {
  float values[kTile * kPitch];
};

int64_t ScorePitch(int64_t positions) { return DivideUp(positions, kTile) * kTile; }

// A map and what is added to it.
template <typename T>
struct Biased {
  PackedView<const T> map;
  const float* bias;  // [channels], or null

  // A vector of a position; zero beyond the last position and the last channel.
  __device__ void Load(uint32_t sample, int64_t position, int first,
                       float (&values)[kMapVector]) const {
    const bool is_inside = position < map.positions && first < map.channels;
    if (is_inside) LoadFloats<kMapVector>(map.At(sample, position, first), values);
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      const bool is_there = is_inside && first + i < map.channels;
      values[i] = is_there ? values[i] + (bias != nullptr ? bias[first + i] : 0.0f) : 0.0f;
    }
  }
};

// sums += a^T b, of tiles whose rows are what is summed over.
__device__ __forceinline__ void MultiplyTiles(const Tile& a, const Tile& b,
                                              float (&sums)[kRows][kColumns]) {
  const int row = threadIdx.x / kColumnThreads * kRows;
  const int column = threadIdx.x % kColumnThreads * kColumns;
#pragma unroll
  for (int k = 0; k < kTile; ++k) {
    const auto left = LoadVector<kRows>(a.values + k * kPitch + row);
    const auto right = LoadVector<kColumns>(b.values + k * kPitch + column);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) sums[i][j] += left.values[i] * right.values[j];
    }
  }
}

// The products of queries and keys, [sample, query, pitch]. Grid: (samples, tiles of queries, tiles
// of keys).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    MultiplyKeys(Biased<T> queries, Biased<T> keys, int64_t pitch, float* scores) {
  __shared__ Tile query_tile;
  __shared__ Tile key_tile;
  WaitForPredecessor();
  // Threads of a warp write one row of the tile, so no two write to the same bank.
  const int place = threadIdx.x % kTile;
  const int vector = threadIdx.x / kTile * kMapVector;
  const int64_t first_query = int64_t{blockIdx.y} * kTile, first_key = int64_t{blockIdx.z} * kTile;
  float sums[kRows][kColumns] = {};
  for (int channel = 0; channel < queries.map.channels; channel += kTile) {
    float query[kMapVector], key[kMapVector];
    queries.Load(blockIdx.x, first_query + place, channel + vector, query);
    keys.Load(blockIdx.x, first_key + place, channel + vector, key);
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      query_tile.values[(vector + i) * kPitch + place] = query[i];
      key_tile.values[(vector + i) * kPitch + place] = key[i];
    }
    __syncthreads();
    MultiplyTiles(query_tile, key_tile, sums);
    __syncthreads();
  }
  const int64_t positions = queries.map.positions;
  const int64_t row = first_query + threadIdx.x / kColumnThreads * kRows;
  const int64_t column = first_key + threadIdx.x % kColumnThreads * kColumns;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    if (row + i >= positions) return;
    Vector<float, kColumns> products;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) products.values[j] = sums[i][j];
    StoreVector(products, scores + (blockIdx.x * positions + row + i) * pitch + column);
  }
}

// The values' sums by the softmax of a query's products. Grid: (samples, tiles of queries, tiles of
// channels).
template <typename T, typename TOut>
__global__ void __launch_bounds__(kThreads)
    MixValues(const float* scores, int64_t pitch, float scale, Biased<T> values,
              PackedView<TOut> output) {
  __shared__ Tile weight_tile;
  __shared__ Tile value_tile;
  __shared__ float of_loaders[kLoaders][kTile];
  WaitForPredecessor();
  const int64_t positions = values.map.positions;
  const int64_t first_query = int64_t{blockIdx.y} * kTile;
  const int first_channel = static_cast<int>(blockIdx.z) * kTile;
  // The query whose weights this thread loads, and the first of its keys in each step.
  const int query = threadIdx.x % kTile;
  const int loader = threadIdx.x / kTile;
  const int key = loader * kMapVector;
  const bool is_query = first_query + query < positions;
  const float* row = scores + (blockIdx.x * positions + first_query + query) * pitch;

  float most = -INFINITY;
  for (int64_t step = 0; is_query && step < positions; step += kTile) {
    float products[kMapVector];
    LoadFloats<kMapVector>(row + step + key, products);
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      if (step + key + i < positions && products[i] > most) most = products[i];
    }
  }
  of_loaders[loader][query] = most;
  __syncthreads();
  for (int i = 0; i < kLoaders; ++i) most = fmaxf(most, of_loaders[i][query]);
  __syncthreads();

  float sums[kRows][kColumns] = {};
  float weight_sum = 0.0f;
  for (int64_t step = 0; step < positions; step += kTile) {
    float products[kMapVector] = {};
    if (is_query) LoadFloats<kMapVector>(row + step + key, products);
#pragma unroll
    for (int i = 0; i < kMapVector; ++i) {
      const bool is_key = is_query && step + key + i < positions;
      const float weight = is_key ? DecayingExponential((most - products[i]) * scale) : 0.0f;
      weight_sum += weight;
      weight_tile.values[(key + i) * kPitch + query] = weight;
    }
    const int place = threadIdx.x / kLoaders;
    const int channel = threadIdx.x % kLoaders * kMapVector;
    float loaded[kMapVector];
    values.Load(blockIdx.x, step + place, first_channel + channel, loaded);
#pragma unroll
    for (int i = 0; i < kMapVector; ++i)
      value_tile.values[place * kPitch + channel + i] = loaded[i];
    __syncthreads();
    MultiplyTiles(weight_tile, value_tile, sums);
    __syncthreads();
  }
  of_loaders[loader][query] = weight_sum;
  __syncthreads();

  const int out_row = threadIdx.x / kColumnThreads * kRows;
  const int channel = first_channel + threadIdx.x % kColumnThreads * kColumns;
  if (channel >= output.pitch) return;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int64_t position = first_query + out_row + i;
    if (position >= positions) return;
    float total = 0.0f;
    for (int of = 0; of < kLoaders; ++of) total += of_loaders[of][out_row + i];
    Vector<TOut, kColumns> mixed;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) mixed.values[j] = FromFloat<TOut>(sums[i][j] / total);
    StoreVector(mixed, output.At(blockIdx.x, static_cast<uint32_t>(position), channel));
  }
}

template <typename T>
Biased<T> WithBias(const magvit_cuda_map& map, const float* bias) {
  return {PackedViewOf<const T>(map), bias};
}

}  // namespace
}  // namespace magvit

int64_t magvit_cuda_attention_workspace_bytes(magvit_cuda_map queries) {
  const int64_t positions = magvit::Positions(queries);
  return queries.batch * positions * magvit::ScorePitch(positions) * int64_t{sizeof(float)};
}

int32_t magvit_cuda_attention(magvit_cuda_map queries, magvit_cuda_map keys, magvit_cuda_map values,
                              magvit_cuda_attention_biases biases, magvit_cuda_map output,
                              void* workspace, void* stream) {
  using namespace magvit;
  constexpr int64_t kMostTiles = 65535;
  for (const magvit_cuda_map& map : {queries, keys, values, output}) {
    if (!IsValid(map) || HasBorder(map) || !AreAlike(map, queries)) return cudaErrorInvalidValue;
  }
  const int64_t tiles = DivideUp(Positions(queries), kTile);
  const int64_t channel_tiles = DivideUp(output.pitch, kTile);
  if (queries.dtype != values.dtype || keys.dtype != values.dtype || workspace == nullptr ||
      !IsAligned(workspace, 32) || tiles > kMostTiles || channel_tiles > kMostTiles) {
    return cudaErrorInvalidValue;
  }
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t pitch = ScorePitch(Positions(queries));
  const float scale = 1.0f / std::sqrt(static_cast<float>(queries.channels));
  auto* scores = static_cast<float*>(workspace);
  const auto batch = static_cast<unsigned>(queries.batch), rows = static_cast<unsigned>(tiles);
  return WithType(values.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const cudaError_t error =
        Launch(MultiplyKeys<T>, dim3(batch, rows, rows), kThreads, queue,
               WithBias<T>(queries, biases.queries), WithBias<T>(keys, biases.keys), pitch, scores);
    if (error != cudaSuccess) return error;
    return WithType(output.dtype, [&](auto* to) {
      using TOut = std::remove_pointer_t<decltype(to)>;
      return Launch(MixValues<T, TOut>, dim3(batch, rows, static_cast<unsigned>(channel_tiles)),
                    kThreads, queue, static_cast<const float*>(scores), pitch, scale,
                    WithBias<T>(values, biases.values), PackedViewOf<TOut>(output));
    });
  });
}
