// Runs CUDA kernels on the CPU, one block after the other, so that their indexing, tails, padding
// and reductions are tested without a GPU. The threads of a block are fibers that take turns at
// __syncthreads and the shuffles. It can't show races within a turn or between blocks, speed, and
// the GPU's own arithmetic (fast exponential and division); gpu_check does.
//
// The build compiles each .cu as C++, includes this file before all others, and finds the launches
// of tensor/launch.cuh beside it.
#ifndef MAGVIT_TESTS_KERNELS_CUDA_ON_CPU_H_
#define MAGVIT_TESTS_KERNELS_CUDA_ON_CPU_H_

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

namespace cuda_on_cpu {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 64 << 10;

// Started by its context, switched by jumps: swapcontext would cost two system calls a turn.
struct Fiber {
  ucontext_t start;
  jmp_buf turn;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  dim3 thread;
  bool started = false;
  bool done = false;
};

// Fibers that wait for each other: all of a block, or of a warp.
struct Barrier {
  int arrived = 0;
  int generation = 0;
};

// The block that runs. One at a time, on one thread of the CPU.
struct Block {
  jmp_buf scheduler;
  std::vector<Fiber> fibers;
  size_t current = 0;
  dim3 index, grid;
  std::function<void()> body;
  Barrier all;
  std::array<Barrier, 32> warps;
  std::array<float, 1024> exchanged;
};

inline Block block;

// The tests' choices: the number of blocks that the GPU holds at once, and whether the last blocks
// run first.
inline int64_t resident_blocks = 24;
inline bool backwards = false;

// Back to the scheduler, until this fiber's next turn.
inline void GiveTurn() {
  if (_setjmp(block.fibers[block.current].turn) == 0) _longjmp(block.scheduler, 1);
}

// Lets the current fiber run until it gives its turn back.
inline void TakeTurn() {
  if (_setjmp(block.scheduler) != 0) return;
  Fiber& fiber = block.fibers[block.current];
  if (fiber.started) _longjmp(fiber.turn, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

inline void Wait(Barrier& barrier, int fibers) {
  const int generation = barrier.generation;
  if (++barrier.arrived == fibers) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  while (barrier.generation == generation) GiveTurn();
}

// The value of lane `source` of the current warp; beyond the last lane, the lane's own value.
inline float Shuffle(float value, int source) {
  const size_t thread = block.current;
  const size_t warp = thread / kWarp;
  block.exchanged[thread] = value;
  Wait(block.warps[warp], kWarp);
  const float result = source < kWarp ? block.exchanged[warp * kWarp + source] : value;
  Wait(block.warps[warp], kWarp);
  return result;
}

inline int Lane() { return static_cast<int>(block.current % kWarp); }

// Fibers take turns, so nothing comes between the read and the write.
inline uint32_t IncrementUpTo(uint32_t* counter, uint32_t limit) {
  const uint32_t before = *counter;
  *counter = before >= limit ? 0 : before + 1;
  return before;
}

inline void RunFiber() {
  block.body();
  block.fibers[block.current].done = true;
  GiveTurn();
}

inline void RunBlock() {
  for (size_t i = 0; i < block.fibers.size(); ++i) {
    Fiber& fiber = block.fibers[i];
    fiber.thread = dim3(static_cast<unsigned>(i));
    fiber.started = fiber.done = false;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.start, RunFiber, 0);
  }
  for (size_t running = block.fibers.size(); running > 0;) {
    for (block.current = 0; block.current < block.fibers.size(); ++block.current) {
      if (block.fibers[block.current].done) continue;
      TakeTurn();
      if (block.fibers[block.current].done) --running;
    }
  }
}

// Runs all blocks of a kernel.
template <typename... Parameters, typename... Arguments>
void Run(void (*kernel)(Parameters...), dim3 grid, int threads, const Arguments&... arguments) {
  block.grid = grid;
  block.fibers.resize(threads);
  block.body = [&] { kernel(static_cast<Parameters>(arguments)...); };
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        block.index =
            backwards ? dim3(grid.x - 1 - x, grid.y - 1 - y, grid.z - 1 - z) : dim3(x, y, z);
        RunBlock();
      }
    }
  }
}

// A GPU faults if a 16-byte access is not aligned.
template <typename T>
void StoreAligned(T* target, const T& value) {
  if (reinterpret_cast<uintptr_t>(target) % sizeof(T) != 0) {
    std::fputs("misaligned store\n", stderr);
    std::abort();
  }
  *target = value;
}

}  // namespace cuda_on_cpu

using std::max;
using std::min;

#define threadIdx (cuda_on_cpu::block.fibers[cuda_on_cpu::block.current].thread)
#define blockIdx (cuda_on_cpu::block.index)
#define gridDim (cuda_on_cpu::block.grid)
#define __syncthreads() \
  cuda_on_cpu::Wait(cuda_on_cpu::block.all, static_cast<int>(cuda_on_cpu::block.fibers.size()))
#define __shfl_down_sync(mask, value, offset) \
  cuda_on_cpu::Shuffle(value, cuda_on_cpu::Lane() + (offset))
#define __shfl_sync(mask, value, lane) cuda_on_cpu::Shuffle(value, lane)
#define __threadfence()
#define __ldcg(source) (*(source))
#define atomicInc(counter, limit) cuda_on_cpu::IncrementUpTo(counter, limit)
#define __stwb(target, value) cuda_on_cpu::StoreAligned(target, value)
#define cudaMemsetAsync(target, value, bytes, stream) \
  (std::memset(target, value, bytes), cudaSuccess)
#define cudaGetErrorString(error) ((error) == cudaSuccess ? "no error" : "invalid argument")

#endif  // MAGVIT_TESTS_KERNELS_CUDA_ON_CPU_H_
