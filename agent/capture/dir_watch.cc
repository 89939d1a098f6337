#include "agent/capture/dir_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/base/status.h"

namespace orgtrail {

DirWatch::DirWatch()
    : inotify_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  CHECK(wake_ >= 0);  // out of descriptors before anything was opened: nothing would work
}

DirWatch::~DirWatch() {
  if (inotify_ >= 0) ::close(inotify_);
  ::close(wake_);
}

bool DirWatch::Watch(std::string_view dir) {
  if (inotify_ < 0) return false;
  std::string name(dir);
  if (dirs_.contains(name)) return true;
  constexpr uint32_t kEvents = IN_MODIFY | IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE |
                               IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  if (::inotify_add_watch(inotify_, name.c_str(), kEvents) < 0) return false;
  dirs_.insert(std::move(name));
  return true;
}

void DirWatch::Wait(absl::Duration limit) {
  pollfd fds[2] = {{wake_, POLLIN, 0}, {inotify_, POLLIN, 0}};
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(limit), 0, 60'000);
  // EINTR and errors end the wait early, which is always allowed. poll() skips a negative descriptor.
  if (::poll(fds, 2, static_cast<int>(ms)) <= 0) return;
  uint64_t count;
  if ((fds[0].revents & POLLIN) != 0 && ::read(wake_, &count, sizeof count) < 0) return;
  if ((fds[1].revents & POLLIN) == 0) return;
  alignas(inotify_event) char events[16 << 10];
  for (ssize_t n; (n = ::read(inotify_, events, sizeof events)) > 0;) {
    for (const char* p = events; p < events + n;) {
      inotify_event event;
      std::memcpy(&event, p, sizeof event);
      // A directory that goes away takes its watch along; whoever still wants it asks again.
      if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_Q_OVERFLOW)) != 0) dirs_.clear();
      p += sizeof event + event.len;
    }
  }
}

void DirWatch::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the wait ends too.
  if (::write(wake_, &one, sizeof one) < 0) return;
}

}  // namespace orgtrail
