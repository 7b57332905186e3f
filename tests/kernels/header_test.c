/* The public header is C, and its usage example compiles. */
#include "magvit/operators.h"

#include <stddef.h>
#include <stdio.h>

int main(void) {
  static float latents[18 * 5 * 16 * 16];
  struct magvit_shape shape = {
      .batch = 1, .channels = 18, .positions = 5 * 16 * 16, .layout = MAGVIT_CHANNELS_FIRST};
  int32_t ids[5 * 16 * 16];
  latents[0] = 1.0f;
  enum magvit_status status = magvit_lfq(latents, MAGVIT_FLOAT32, shape, ids, NULL, 0);
  if (status != MAGVIT_OK) fprintf(stderr, "%s\n", magvit_status_message(status));
  return status == MAGVIT_OK && ids[0] == 1 && ids[1] == 0 ? 0 : 1;
}
