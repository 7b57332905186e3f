// The codebook search of every instruction set: some positions against some rows.
#ifndef MAGVIT_CODEBOOK_CODEBOOK_KERNELS_H_
#define MAGVIT_CODEBOOK_CODEBOOK_KERNELS_H_

#include <cstdint>

#include "codebook/codebook.h"

namespace magvit {

struct SearchTask {
  const float* codebook;  // [rows, channels]
  int64_t channels, first_row, last_row;
  const float* latents;  // [panel][channel][positions of a panel]
  int64_t panels;
  // Parts of each position's `BestTwo`, [panel][positions of a panel].
  float* first;
  float* second;
  int32_t* row;
};

struct CodebookKernels {
  const char* name;
  int64_t panel;  // positions
  void (*search)(const SearchTask& task);
};

extern const CodebookKernels kPortableCodebookKernels;
#ifdef MAGVIT_HAS_X86_KERNELS
extern const CodebookKernels kAvx2CodebookKernels;
extern const CodebookKernels kAvx512CodebookKernels;
#endif

}  // namespace magvit

#endif  // MAGVIT_CODEBOOK_CODEBOOK_KERNELS_H_
