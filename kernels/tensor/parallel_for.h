// Runs numbered tasks on several threads of the CPU.
#ifndef MAGVIT_TENSOR_PARALLEL_FOR_H_
#define MAGVIT_TENSOR_PARALLEL_FOR_H_

#include <cstdint>
#include <functional>

namespace magvit {

// Calls task(0) ... task(count - 1), each once, on up to `threads` threads (0: one per available
// CPU), and returns when all are done. Tasks must not throw. Which thread runs a task is not
// fixed, so a task must only write what no other task reads or writes.
void ParallelFor(int64_t count, int32_t threads, const std::function<void(int64_t)>& task);

}  // namespace magvit

#endif  // MAGVIT_TENSOR_PARALLEL_FOR_H_
