/* Uses each installed library as docs/embedding.md says. */
#include <dlfcn.h>
#include <magvit/operators.h>
#include <stddef.h>
#include <stdio.h>
#ifdef HAS_CUDA
#include <magvit/cuda_operators.h>
#endif

int main(void) {
  const float latents[3 * 2] = {1, -1, 0, 2, 3, -3}; /* [C=3, positions=2] */
  const struct magvit_shape shape = {
      .batch = 1, .channels = 3, .positions = 2, .layout = MAGVIT_CHANNELS_FIRST};
  int32_t ids[2] = {-1, -1};
  if (magvit_operators_abi() != MAGVIT_OPERATORS_ABI) return 1;
  if (magvit_lfq(latents, MAGVIT_FLOAT32, shape, ids, NULL, 1) != MAGVIT_OK) return 2;
  if (ids[0] != 5 || ids[1] != 2) return 3;
  printf("operators %d %d\n", ids[0], ids[1]);
#ifdef HAS_CUDA
  if (magvit_cuda_operators_abi() != MAGVIT_CUDA_OPERATORS_ABI) return 4;
  puts("cuda");
#endif
#ifdef PLUGINS
  void* plugins = dlopen(PLUGINS, RTLD_NOW);
  if (plugins == NULL || dlsym(plugins, "getCreators") == NULL) return 5;
  puts("plugins");
#endif
  return 0;
}
