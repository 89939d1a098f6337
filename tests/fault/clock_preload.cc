// Loaded before the C library's functions (LD_PRELOAD): the wall clock of one program is off by what a file says, nanoseconds as an int64_t in
// the machine's order, at once when the file changes. Every other clock goes on as it was.
//
// Waits that end at a time of the wall clock last as long as they were meant to: Abseil's locks, which gRPC waits with, hand such times to the
// kernel, whose clock nobody set.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace {

// The function that stands behind this library's own of that name.
#define REAL(name)                                                                       \
  ([] {                                                                                  \
    static const auto next = reinterpret_cast<decltype(&::name)>(dlsym(RTLD_NEXT, #name)); \
    return next;                                                                         \
  }())

const std::atomic<int64_t>* Map() {
  const char* path = getenv("ORGTRAIL_CLOCK_FILE");
  if (path == nullptr) return nullptr;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* page = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return page == MAP_FAILED ? nullptr : static_cast<const std::atomic<int64_t>*>(page);
}
int64_t Offset() {
  static const std::atomic<int64_t>* const offset = Map();
  return offset == nullptr ? 0 : offset->load(std::memory_order_relaxed);
}

constexpr int64_t kSecond = 1'000'000'000;
timespec Moved(const timespec& t, int64_t by) {
  int64_t seconds = t.tv_sec + by / kSecond, nanos = t.tv_nsec + by % kSecond;
  if (nanos < 0) {
    nanos += kSecond;
    --seconds;
  } else if (nanos >= kSecond) {
    nanos -= kSecond;
    ++seconds;
  }
  return {seconds < 0 ? 0 : seconds, nanos};
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* t) noexcept {
  const int result = REAL(clock_gettime)(clock, t);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *t = Moved(*t, Offset());
  return result;
}

int gettimeofday(timeval* __restrict t, void* __restrict) noexcept {
  timespec now{};
  const int result = clock_gettime(CLOCK_REALTIME, &now);
  *t = {now.tv_sec, now.tv_nsec / 1000};
  return result;
}

time_t time(time_t* t) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (t != nullptr) *t = now.tv_sec;
  return now.tv_sec;
}

long syscall(long number, ...) noexcept {
  va_list more;
  va_start(more, number);
  long a[6];
  for (long& one : a) one = va_arg(more, long);   // as the C library's own does, whatever the call takes
  va_end(more);
  timespec until{};
  if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) != 0 && a[3] != 0) {
    until = Moved(*reinterpret_cast<const timespec*>(a[3]), -Offset());
    a[3] = reinterpret_cast<long>(&until);
  }
  return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // extern "C"
