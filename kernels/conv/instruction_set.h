// Which of the implementations, one for each instruction set, this CPU uses.
#ifndef MAGVIT_CONV_INSTRUCTION_SET_H_
#define MAGVIT_CONV_INSTRUCTION_SET_H_

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace magvit {

// All implementations of a kind, the fastest first; those that this machine's compiler hasn't built
// are null.
#ifdef MAGVIT_HAS_X86_KERNELS
#define MAGVIT_ALL_KERNELS(kind) kPortable##kind, &kAvx2##kind, &kAvx512##kind
#else
#define MAGVIT_ALL_KERNELS(kind) \
  kPortable##kind, static_cast<const kind*>(nullptr), static_cast<const kind*>(nullptr)
#endif

// The fastest that this CPU runs, or the one that MAGVIT_INSTRUCTION_SET names if it does.
template <typename Kernels>
const Kernels& ChooseKernels(const Kernels& portable, const Kernels* avx2, const Kernels* avx512) {
#ifdef MAGVIT_HAS_X86_KERNELS
  if (!__builtin_cpu_supports("avx512f")) avx512 = nullptr;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) avx2 = nullptr;
#endif
  const char* wanted = std::getenv("MAGVIT_INSTRUCTION_SET");
  const Kernels* fastest = nullptr;
  for (const Kernels* kernels : {avx512, avx2, &portable}) {
    if (kernels == nullptr) continue;
    if (wanted != nullptr && std::strcmp(wanted, kernels->name) == 0) return *kernels;
    if (fastest == nullptr) fastest = kernels;
  }
  return *fastest;
}

}  // namespace magvit

#endif  // MAGVIT_CONV_INSTRUCTION_SET_H_
