// A library in TensorRT's place, with the logger of one of its major versions.
#ifndef MAGVIT_TESTS_KERNELS_TENSORRT_STAND_IN_H_
#define MAGVIT_TESTS_KERNELS_TENSORRT_STAND_IN_H_

#include <string>

struct TensorRTStandIn {
  void* finder;      // an ILoggerFinder
  std::string last;  // what `log` was called with
  int wrong_calls;   // of the logger's other functions
};

extern "C" TensorRTStandIn* GetTensorRTStandIn();

#endif  // MAGVIT_TESTS_KERNELS_TENSORRT_STAND_IN_H_
