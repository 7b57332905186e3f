// The threads of the C interface.
#ifndef MAGVIT_CONV_POOL_H_
#define MAGVIT_CONV_POOL_H_

#include "magvit/operators.h"
#include "tensor/thread_pool.h"

struct magvit_pool {
  magvit::ThreadPool threads;
};

#endif  // MAGVIT_CONV_POOL_H_
