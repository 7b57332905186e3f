// Threads that wait for numbered tasks, and a scratch buffer for each.
#ifndef MAGVIT_TENSOR_THREAD_POOL_H_
#define MAGVIT_TENSOR_THREAD_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace magvit {

class ThreadPool {
 public:
  // `threads` counts the calling thread; 0 means one per CPU that this process may run on.
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(scratch_.size()); }

  // Calls task(index, worker) for each index below `count` and returns when all are done. Tasks
  // must not throw. Calls from several threads wait for each other.
  using Task = std::function<void(int64_t index, int32_t worker)>;
  void Run(int64_t count, const Task& task);

  // At least `bytes` bytes on a 64-byte boundary, kept from task to task and from run to run. Call
  // it before `Run`, whose tasks then use `Scratch`. May throw std::bad_alloc.
  void ReserveScratch(size_t bytes);
  float* Scratch(int32_t worker) const { return scratch_[worker].get(); }

  // One operator holds it from when it reserves scratch until it ends.
  std::unique_lock<std::mutex> Own() { return std::unique_lock<std::mutex>(owner_); }

 private:
  struct Job;
  struct Free {
    void operator()(float* memory) const;
  };

  void Serve(int32_t worker);
  static void Work(Job& job, int32_t worker);

  std::mutex owner_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::shared_ptr<Job> job_;  // guarded by mutex_, as is stopping_
  bool stopping_ = false;
  size_t scratch_bytes_ = 0;
  std::vector<std::unique_ptr<float, Free>> scratch_;
  std::vector<std::thread> helpers_;
};

}  // namespace magvit

#endif  // MAGVIT_TENSOR_THREAD_POOL_H_
