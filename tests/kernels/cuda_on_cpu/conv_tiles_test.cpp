// The tiles of the conv on tensor cores: every position is in one tile, the heavy ones come first,
// the blocks share them evenly, and maps that aren't made of whole tiles are refused.
#include <algorithm>
#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "../check.h"
#include "tensor_core_conv/tiles.h"

namespace {

using magvit::ConvTile;
using magvit::ConvTiles;

alignas(32) char memory[32];

magvit_cuda_map HalfMap(int64_t batch, int64_t frames, int64_t height, int64_t width,
                        int64_t channels) {
  return {memory, MAGVIT_FLOAT16, batch, {frames, height, width}, channels, channels, {}, {}};
}

// How many taps of the kernel's frames a tile multiplies.
int Taps(const ConvTiles& tiles, const ConvTile& tile) {
  return tiles.kernel_frames - tile.first_tap;
}

void TestCoverage(int64_t batch, int64_t frames, int64_t kernel_frames) {
  const magvit_cuda_map input = HalfMap(batch, frames, 64, 24, 64);
  const magvit_cuda_map output = HalfMap(batch, frames, 64, 24, 256);
  CHECK(magvit::FitsTiles(input, output, kernel_frames));
  const ConvTiles tiles = magvit::TilesOf(input, output, kernel_frames);
  CHECK(tiles.Total() == batch * frames * 2 * 3 * 2);
  std::set<std::tuple<int, int, int, int, int>> seen;
  std::set<std::tuple<int, int, int>> places;
  int heavier = tiles.kernel_frames;
  for (int i = 0; i < tiles.Total(); ++i) {
    const ConvTile tile = magvit::TileAt(tiles, i);
    CHECK(tile.clip >= 0 && tile.clip < batch && tile.frame >= 0 && tile.frame < frames);
    CHECK(tile.row % 32 == 0 && tile.row < 64 && tile.column % 8 == 0 && tile.column < 24);
    CHECK(tile.channel == 0 || tile.channel == 128);
    // The frames of the window that are in the clip.
    CHECK(Taps(tiles, tile) == std::min<int64_t>(kernel_frames, tile.frame + 1));
    CHECK(Taps(tiles, tile) <= heavier);
    heavier = Taps(tiles, tile);
    CHECK(tile.place >= 0 && tile.place < tiles.OfClip());
    seen.insert({tile.clip, tile.frame, tile.row, tile.column, tile.channel});
    places.insert({tile.clip, tile.place, tile.channel});
  }
  CHECK(static_cast<int>(seen.size()) == tiles.Total());
  CHECK(static_cast<int>(places.size()) == tiles.Total());
}

// Each tile is taken once, and no block has more than one whole window's work above the others.
void TestRounds(const ConvTiles& tiles, int blocks) {
  std::vector<int> work(blocks);
  std::vector<int> taken(tiles.Total());
  for (int block = 0; block < blocks; ++block) {
    for (int round = 0;; ++round) {
      const int index = magvit::TileOfRound(round, block, blocks);
      if (index >= tiles.Total()) break;
      ++taken[index];
      work[block] += Taps(tiles, magvit::TileAt(tiles, index));
    }
  }
  CHECK(std::all_of(taken.begin(), taken.end(), [](int times) { return times == 1; }));
  const auto [least, most] = std::minmax_element(work.begin(), work.end());
  CHECK(*most - *least <= tiles.kernel_frames);
}

void TestFitting() {
  const magvit_cuda_map input = HalfMap(2, 5, 32, 8, 64), output = HalfMap(2, 5, 32, 8, 128);
  CHECK(magvit::FitsTiles(input, output, 3));
  CHECK(magvit::FitsTiles(input, output, 1));
  CHECK(!magvit::FitsTiles(input, output, 0));
  CHECK(!magvit::FitsTiles(input, output, 4));
  CHECK(!magvit::FitsTiles(HalfMap(2, 5, 32, 8, 72), output, 3));
  CHECK(!magvit::FitsTiles(input, HalfMap(2, 5, 32, 8, 64), 3));
  CHECK(!magvit::FitsTiles(input, HalfMap(1, 5, 32, 8, 128), 3));
  CHECK(!magvit::FitsTiles(input, HalfMap(2, 4, 32, 8, 128), 3));
  CHECK(!magvit::FitsTiles(HalfMap(2, 5, 16, 8, 64), HalfMap(2, 5, 16, 8, 128), 3));
  CHECK(!magvit::FitsTiles(HalfMap(2, 5, 32, 12, 64), HalfMap(2, 5, 32, 12, 128), 3));
  magvit_cuda_map other = input;
  other.dtype = MAGVIT_FLOAT32;
  CHECK(!magvit::FitsTiles(other, output, 3));
  other = output;
  other.dtype = MAGVIT_FLOAT32;
  CHECK(!magvit::FitsTiles(input, other, 3));
  other = input;
  other.before[0] = 2;
  CHECK(!magvit::FitsTiles(other, output, 3));
  other = input;
  other.pitch = 128;
  CHECK(!magvit::FitsTiles(other, output, 3));
  // Whole groups in 64 channels.
  for (const int64_t groups : {2, 4, 32, 128}) CHECK(magvit::FitsGroups(output, groups));
  CHECK(!magvit::FitsGroups(output, 1));
  CHECK(!magvit::FitsGroups(HalfMap(1, 1, 32, 8, 384), 32));
}

}  // namespace

int main() {
  for (const int64_t kernel_frames : {1, 2, 3}) {
    for (const int64_t frames : {1, 2, 3, 7}) {
      for (const int64_t batch : {1, 3}) TestCoverage(batch, frames, kernel_frames);
    }
  }
  // The released encoder's maps on GPUs of the kind, and more blocks than tiles.
  for (const int blocks : {132, 114, 7}) {
    for (const int64_t batch : {1, 8}) {
      const magvit_cuda_map large = HalfMap(batch, 17, 128, 128, 128);
      TestRounds(magvit::TilesOf(large, large, 3), blocks);
      const magvit_cuda_map middle = HalfMap(batch, 17, 64, 64, 256);
      TestRounds(magvit::TilesOf(middle, middle, 3), blocks);
    }
  }
  TestFitting();
  return Verdict();
}
