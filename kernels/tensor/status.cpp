// The version of the C interface, and its error messages.
#include "magvit/operators.h"

const char* magvit_status_message(magvit_status status) {
  switch (status) {
    case MAGVIT_OK:
      return "Done.";
    case MAGVIT_NULL_POINTER:
      return "A required pointer is NULL; weight and bias must be given both or neither.";
    case MAGVIT_BAD_SHAPE:
      return "The shape has a negative size, no channels, or a channel pitch below the channels.";
    case MAGVIT_BAD_CHANNELS:
      return "LFQ takes 1 to 31 channels, since an id is a non-negative int32.";
    case MAGVIT_BAD_GROUPS:
      return "The number of groups must be positive and divide the number of channels.";
    case MAGVIT_BAD_EPSILON:
      return "Epsilon must be finite and not negative.";
    case MAGVIT_BAD_ENUM:
      return "A type, layout or activation is none of the values in magvit/operators.h.";
    case MAGVIT_OUT_OF_MEMORY:
      return "There is not enough memory.";
    case MAGVIT_BAD_CONV:
      return "A conv needs channels, positive strides, and padding smaller than its kernel.";
    case MAGVIT_BAD_BACKGROUND:
      return "A map's background must not be larger than the map, and only maps with a background "
             "give one.";
    case MAGVIT_BAD_ROWS:
      return "A codebook has 1 to 2^31 - 2 rows.";
  }
  return "Unknown status; the library and the header may be of different versions.";
}

int32_t magvit_operators_abi() { return MAGVIT_OPERATORS_ABI; }
