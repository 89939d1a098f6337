// ChildProcess: this program once more, doing something of which it may die. What it says on standard output and error comes back line by line.
// Threads  one.
// Owns     the process; it is killed with this object.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace orgtrail {

class ChildProcess {
 public:
  ChildProcess() = default;
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  // `words` follow the program's name; `input` (borrowed; -1: none of its own) is its standard input. False: it cannot be started; said.
  bool Start(const std::string& program, std::vector<std::string> words, int input = -1);
  bool IsRunning() const { return child_ > 0; }
  std::vector<std::string> Lines();        // whole ones, without their ends, since the last call; of each at most 16 KiB
  std::optional<int> Ended();              // as waitpid says it, once; ask for Lines once more then

 private:
  void Read();
  pid_t child_ = -1;
  int pipe_ = -1;
  std::string unfinished_;
  std::vector<std::string> lines_;
};

}  // namespace orgtrail
