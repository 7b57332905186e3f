// The whole test framework of the C++ tests: CHECK, and an exit code.
#ifndef MAGVIT_TESTS_KERNELS_CHECK_H_
#define MAGVIT_TESTS_KERNELS_CHECK_H_

#include <cstdio>

inline int failed_checks = 0;

// Prints the expression that was false and goes on, so that one run shows all failures.
#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      std::fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
      ++failed_checks;                                                            \
    }                                                                             \
  } while (false)

// The value of main().
inline int Verdict() {
  if (failed_checks == 0) std::puts("all checks passed");
  return failed_checks == 0 ? 0 : 1;
}

#endif  // MAGVIT_TESTS_KERNELS_CHECK_H_
