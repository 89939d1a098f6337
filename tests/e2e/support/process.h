// Process: a program under test, in a process group of its own, its output in a file. It never outlives its object, nor, when
// the test itself is killed, the test.
//
// Threads  one; Start on a thread that lives as long as the process (the kernel ties it to the thread that forked it).
// Errors   what cannot be set up throws std::runtime_error, which GoogleTest reports as the running test's failure.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace orgtrail::e2e {

[[noreturn]] void Fail(const std::string& what);

// Polls until `done` or the deadline; the last word is `done`'s. Deadlines are generous: only a broken program reaches one.
bool Eventually(absl::Duration limit, const std::function<bool()>& done);
inline constexpr absl::Duration kSoon = absl::Seconds(30);
inline constexpr absl::Duration kPatience = absl::Seconds(120);

using Environment = std::vector<std::pair<std::string, std::string>>;

class Process {
 public:
  // `output`: a file that standard output and error are appended to.
  static std::unique_ptr<Process> Start(const std::vector<std::string>& argv, const std::string& output, const Environment& env = {});
  ~Process();                                       // kills what still runs, and reaps it
  Process(const Process&) = delete;

  pid_t pid() const { return pid_; }
  bool Running();
  void Signal(int signal);                          // to the whole group
  // Exit code, or 128 + signal; nullopt: it still runs at the deadline.
  std::optional<int> Wait(absl::Duration limit);
  std::string Fate();                               // "it runs", "it ended with 1": for messages
  int Kill();                                       // SIGKILL and reap
  int64_t ResidentBytes() const;
  int64_t PeakBytes() const;                        // the most that was resident so far

 private:
  Process() = default;
  pid_t pid_ = -1;
  std::optional<int> code_;
};

struct Ran {
  int code = -1;                                    // 128 + signal when killed; -1: killed by us at the deadline
  std::string out, err;
};
// Runs a program to its end.
Ran RunProgram(const std::vector<std::string>& argv, std::string_view input = {}, const Environment& env = {},
        absl::Duration limit = kPatience);

std::string ReadWhole(const std::string& path);     // empty when there is no such file
void WriteWhole(const std::string& path, std::string_view bytes);
std::string MakeDirs(const std::string& path);        // returns it
void AppendTo(const std::string& path, std::string_view bytes);
std::vector<std::string> LinesOf(std::string_view text);  // without their LF; a last line without one too

}  // namespace orgtrail::e2e
