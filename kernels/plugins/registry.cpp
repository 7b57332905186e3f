// The plugin library's entry point: the creators that TensorRT finds when it loads the library.
#include <NvInferRuntime.h>

#include "codebook/codebook_plugin.h"
#include "group_norm_silu/group_norm_plugin.h"
#include "lfq/lfq_plugin.h"
#include "magvit/operators.h"
#include "plugins/creator.h"

extern "C" MAGVIT_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static magvit::Creator lfq = magvit::LfqCreator();
  static magvit::Creator codebook = magvit::CodebookCreator();
  static magvit::Creator group_norm = magvit::GroupNormCreator(MAGVIT_NO_ACTIVATION);
  static magvit::Creator group_norm_silu = magvit::GroupNormCreator(MAGVIT_SILU);
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&lfq, &codebook, &group_norm,
                                                                &group_norm_silu};
  count = sizeof(creators) / sizeof(creators[0]);
  return creators;
}
