// Instructions of GPUs of compute capability 9.0 that CUDA C++ has no functions for: tensor copies
// between global and shared memory, their barriers, and products on tensor cores by groups of four
// warps. Addresses of shared memory are 32 bits.
//
// Source: PTX ISA, "cp.async.bulk.tensor", "mbarrier", "wgmma.mma_async", "stmatrix".
#ifndef MAGVIT_TENSOR_CORE_CONV_HOPPER_CUH_
#define MAGVIT_TENSOR_CORE_CONV_HOPPER_CUH_

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace magvit {

constexpr int kGroupThreads = 128;  // of four warps
// Tensor copies swizzle the 16-byte units of rows of 128 bytes: unit u of row r lies at u ^ (r %
// 8).
constexpr int kSwizzledRow = 128;
constexpr int kSwizzledUnit = 16;
constexpr int kSwizzleBytes = 1024;  // over which this repeats

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// A barrier that `arrivals` threads pass, and the bytes that copies bring. Its phases are counted
// modulo 2; before the first one, the other parity counts as passed.
__device__ __forceinline__ void InitializeBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

__device__ __forceinline__ void Arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void ArriveAndExpect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void WaitFor(uint32_t barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred passed;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 passed, [%0], %1;\n"
      "@!passed bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// What this thread wrote to shared memory before, barriers included, is seen by tensor copies and
// tensor cores after.
__device__ __forceinline__ void ShowToCopies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Waits for all threads of a group; each group has a barrier of its own.
__device__ __forceinline__ void SynchronizeGroup(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kGroupThreads) : "memory");
}

// More or fewer registers for each thread of a group.
template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void KeepRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Starts to copy a box of weights, [outputs, taps, channels], and then arrives at the barrier.
__device__ __forceinline__ void LoadWeights(const CUtensorMap& map, uint32_t target, int channel,
                                            int tap, int output, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(target),
      "l"(&map), "r"(channel), "r"(tap), "r"(output), "r"(barrier)
      : "memory");
}

// Where a box of a feature map begins. What lies outside of the map is read as zeros.
struct BoxPlace {
  int channel, column, row, frame, clip;
};

__device__ __forceinline__ void LoadBox(const CUtensorMap& map, uint32_t target,
                                        const BoxPlace& place, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(target),
      "l"(&map), "r"(place.channel), "r"(place.column), "r"(place.row), "r"(place.frame),
      "r"(place.clip), "r"(barrier)
      : "memory");
}

// Starts to copy a box to a feature map.
__device__ __forceinline__ void StoreBox(const CUtensorMap& map, uint32_t source,
                                         const BoxPlace& place) {
  asm volatile(
      "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group"
      " [%0, {%2, %3, %4, %5, %6}], [%1];\n"
      "cp.async.bulk.commit_group;" ::"l"(&map),
      "r"(source), "r"(place.channel), "r"(place.column), "r"(place.row), "r"(place.frame),
      "r"(place.clip)
      : "memory");
}

// Waits until what this thread's stores read may be overwritten, or until they are complete.
__device__ __forceinline__ void WaitForStoresToRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

__device__ __forceinline__ void WaitForStores() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// A matrix in shared memory for tensor cores: swizzled rows of 64 halves. Every 8 rows lie one
// after the other, and the next 8 rows begin kStride bytes after these. It may begin at any row:
// the swizzle follows the address, so the descriptor's base offset stays 0.
template <int kStride>
__device__ __forceinline__ uint64_t MatrixAt(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kUnusedStride = uint64_t{1} << 16;
  return uint64_t{address >> 4} | kUnusedStride | uint64_t{kStride >> 4} << 32 | kSwizzle128;
}

// The same some bytes further on.
__device__ __forceinline__ uint64_t Further(uint64_t matrix, int bytes) {
  return matrix + (bytes >> 4);
}

// Products of 64 by 256 elements by one group. A thread's elements of a row are neighbours in
// pairs: thread t of a warp has row t / 4 in registers 4j and 4j + 1, and the row 8 further down in
// 4j + 2 and 4j + 3, for columns 8j + t % 4 * 2 and the next. Warp w begins at row 16w.
constexpr int kProductRows = 64;
constexpr int kProductColumns = 256;
constexpr int kProductDepth = 16;  // of one instruction
constexpr int kProductRegisters = kProductRows * kProductColumns / kGroupThreads;
using Products = float[kProductRegisters];

__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most this many commits are under way.
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from reading sums before a wait that comes before this.
__device__ __forceinline__ void Settle(Products& sums) {
#pragma unroll
  for (int i = 0; i < kProductRegisters; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

#define MAGVIT_8(x, i) x(i), x(i + 1), x(i + 2), x(i + 3), x(i + 4), x(i + 5), x(i + 6), x(i + 7)
#define MAGVIT_32(x, i) MAGVIT_8(x, i), MAGVIT_8(x, i + 8), MAGVIT_8(x, i + 16), MAGVIT_8(x, i + 24)
#define MAGVIT_IN_OUT(i) "+f"(sums[i])

// sums = a b + (adds ? sums : 0); a [64, 16] and b [256, 16] are of halves, sums are float32.
__device__ __forceinline__ void StartProducts(Products& sums, uint64_t a, uint64_t b, bool adds) {
  asm volatile(
      "{\n"
      ".reg .pred adds;\n"
      "setp.ne.b32 adds, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16\n"
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,\n"
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,\n"
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,\n"
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63,\n"
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79,\n"
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95,\n"
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "
      "%111,\n"
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126,\n"
      "%127}, %128, %129, adds, 1, 1, 0, 0;\n"
      "}\n"
      : MAGVIT_32(MAGVIT_IN_OUT, 0), MAGVIT_32(MAGVIT_IN_OUT, 32), MAGVIT_32(MAGVIT_IN_OUT, 64),
        MAGVIT_32(MAGVIT_IN_OUT, 96)
      : "l"(a), "l"(b), "r"(static_cast<int>(adds)));
}

#undef MAGVIT_IN_OUT
#undef MAGVIT_32
#undef MAGVIT_8

// Four matrices of 8 by 8 halves between registers and shared memory, transposed: threads 8m to
// 8m + 7 give the addresses of the rows of matrix m, and a thread's register m has two neighbours
// of one column.
__device__ __forceinline__ void LoadTransposed(uint32_t address, uint32_t (&words)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void StoreTransposed(uint32_t address, const uint32_t (&words)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
      : "memory");
}

}  // namespace magvit

#endif  // MAGVIT_TENSOR_CORE_CONV_HOPPER_CUH_
