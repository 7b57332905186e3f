#include "tensor/thread_pool.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <system_error>

namespace magvit {

// Tasks are counted when done, not threads when idle: a helper that never wakes (in the child of a
// fork there are none) is not waited for.
struct ThreadPool::Job {
  const Task* task;
  int64_t count;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::mutex mutex;
  std::condition_variable finished;
};

namespace {

int32_t Threads(int32_t asked) {
  if (asked > 0) return asked;
  const unsigned here = std::thread::hardware_concurrency();
  return here > 0 ? static_cast<int32_t>(here) : 1;
}

}  // namespace

void ThreadPool::Free::operator()(float* memory) const { std::free(memory); }

ThreadPool::ThreadPool(int32_t threads) : scratch_(Threads(threads)) {
  try {
    for (int32_t worker = 1; worker < this->threads(); ++worker) {
      helpers_.emplace_back([this, worker] { Serve(worker); });
    }
  } catch (const std::system_error&) {
    // No more threads are available: those that started, and the caller, do all the work.
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::Run(int64_t count, const Task& task) {
  if (count == 0) return;
  const auto job = std::make_shared<Job>();
  job->task = &task;
  job->count = count;
  if (count > 1 && !helpers_.empty()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      job_ = job;
    }
    wake_.notify_all();
  }
  Work(*job, 0);
  std::unique_lock<std::mutex> lock(job->mutex);
  job->finished.wait(lock, [&] { return job->done == count; });
}

void ThreadPool::ReserveScratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return;
  scratch_bytes_ = 0;
  const size_t rounded = (bytes + 63) / 64 * 64;
  for (auto& buffer : scratch_) {
    buffer.reset();
    buffer.reset(static_cast<float*>(std::aligned_alloc(64, rounded)));
    if (buffer == nullptr) throw std::bad_alloc();
  }
  scratch_bytes_ = rounded;
}

void ThreadPool::Serve(int32_t worker) {
  std::shared_ptr<Job> last;
  for (;;) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || job_ != last; });
      if (stopping_) return;
      last = job_;
    }
    Work(*last, worker);
  }
}

void ThreadPool::Work(Job& job, int32_t worker) {
  int64_t mine = 0;
  for (int64_t index = job.next++; index < job.count; index = job.next++) {
    (*job.task)(index, worker);
    ++mine;
  }
  if (mine == 0) return;
  // Under the lock, so that the waiter can't miss it between its check and its wait.
  const std::lock_guard<std::mutex> lock(job.mutex);
  job.done += mine;
  if (job.done == job.count) job.finished.notify_all();
}

}  // namespace magvit
