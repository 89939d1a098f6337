#include "common/base/last_words.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace orgtrail {
namespace {

constexpr char kMaps[] = "/proc/self/maps";

// What follows runs in a signal handler: no allocation, no locks, system calls only.

uintptr_t TakeHex(const char*& at) {
  uintptr_t value = 0;
  for (;; ++at) {
    const char c = *at;
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return value;
    value = value << 4 | static_cast<uintptr_t>(digit);
  }
}

// The path in a line of kMaps when the line's range has `address`; null when it has not, or is no file.
const char* PathIn(const char* line, uintptr_t address) {
  const uintptr_t begin = TakeHex(line);
  if (*line++ != '-') return nullptr;
  const uintptr_t end = TakeHex(line);
  return address >= begin && address < end ? std::strchr(line, '/') : nullptr;
}

// The file that is mapped at `address`, into `line`; null when there is none.
const char* FileAt(uintptr_t address, char* line, size_t room) {
  const int fd = ::open(kMaps, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  const char* path = nullptr;
  char piece[4096];
  size_t length = 0;
  for (ssize_t n; path == nullptr && (n = ::read(fd, piece, sizeof piece)) > 0;) {
    for (ssize_t i = 0; i < n && path == nullptr; ++i) {
      if (piece[i] != '\n') {
        if (length + 1 < room) line[length++] = piece[i];
        continue;
      }
      line[length] = '\0';
      length = 0;
      path = PathIn(line, address);
    }
  }
  ::close(fd);
  return path;
}

void Say(const char* words) { [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, words, std::strlen(words)); }

const char* RemedyFor(const char* path) {
  if (std::strstr(path, "/shard-") != nullptr) return "orgtrail fsck says what is missing, orgtrail repair or restore puts it back";
  if (std::strstr(path, "/derived/") != nullptr) return "remove derived/history: it is made again from the ledger";
  return "keep a copy of its directory, then put it back from a backup";
}

void OnBusError(int, siginfo_t* info, void*) {
  char line[4400];
  const char* path = FileAt(reinterpret_cast<uintptr_t>(info->si_addr), line, sizeof line);
  Say("FATAL ");
  Say(path != nullptr ? path : "a mapped file");
  Say(": a page of it cannot be read: the file was cut short, or its disk fails; ");
  Say(path != nullptr ? RemedyFor(path) : "look into the kernel's log");
  Say("\n");
  std::abort();
}

}  // namespace

void NameFilesThatFail() {
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | static_cast<int>(SA_RESETHAND);
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace orgtrail
