// Threads are started per call. This costs tens of microseconds, while the operators take
// milliseconds. And there is no pool that a fork or an unload could break.
#include "tensor/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace magvit {

void ParallelFor(int64_t count, int32_t threads, const std::function<void(int64_t)>& task) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t index = next++; index < count; index = next++) task(index);
  };

  const int64_t allowed = threads > 0 ? threads : std::thread::hardware_concurrency();
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < std::min(allowed, count); ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // No more threads are available: those that started, and this one, do all the work.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace magvit
