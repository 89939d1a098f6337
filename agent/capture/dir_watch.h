// DirWatch: wakes when something happens in a directory (inotify), or when told, or when the time is over. Where there is no
// inotify (limits, network disks) only the time is left, which is why every wait has one.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace orgtrail {

class DirWatch {
 public:
  DirWatch();
  ~DirWatch();
  DirWatch(const DirWatch&) = delete;
  DirWatch& operator=(const DirWatch&) = delete;

  bool Watch(std::string_view dir);   // again is cheap; false: changes there are seen only when the time is over
  void Wait(absl::Duration limit);
  void Wake();                        // any thread; ends the wait, or the next one

 private:
  int inotify_ = -1, wake_ = -1;
  std::set<std::string> dirs_;
};

}  // namespace orgtrail
