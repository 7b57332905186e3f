// The convs of one instruction set; compiled once for each.
#include "conv/conv_kernels.h"

#include "conv/product_conv.h"
#include "conv/winograd_conv.h"

namespace magvit {
namespace MAGVIT_ISA {
namespace {

size_t PackedSize(const ConvShape& shape) {
  return shape.is_winograd ? WinogradPackedSize(shape) : ProductPackedSize(shape);
}

void PackPanel(const ConvShape& shape, const float* weights, int64_t panel, float* packed) {
  (shape.is_winograd ? PackWinogradPanel : PackProductPanel)(shape, weights, panel, packed);
}

size_t ScratchSize(const ConvTask& task) {
  return task.shape->is_winograd ? WinogradScratchSize(task) : ProductScratchSize(task);
}

void Run(const ConvTask& task) {
  if (task.shape->is_winograd) {
    RunWinograd(task);
  } else {
    WithReader(task.normalization, [&](const auto& read) { RunProduct(task, read); });
  }
}

}  // namespace
}  // namespace MAGVIT_ISA

const ConvKernels MAGVIT_KERNELS(ConvKernels) = {
    MAGVIT_TEXT(MAGVIT_ISA), MAGVIT_ISA::kLanes,      MAGVIT_ISA::kPanel, MAGVIT_ISA::PackedSize,
    MAGVIT_ISA::PackPanel,   MAGVIT_ISA::ScratchSize, MAGVIT_ISA::Run,
};

}  // namespace magvit
