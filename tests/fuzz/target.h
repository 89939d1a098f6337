// What every fuzz target is: two functions. libfuzzer_main.cc makes a libFuzzer program of them, replay_main.cc one that only runs what
// is known, in every test run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace orgtrail::fuzz {

void One(std::string_view in);        // returns for any input; a CHECK says what did not hold
std::vector<std::string> Seeds();     // made, so that no binary lies in the tree; text lies in <target>_corpus

// An input taken apart: numbers and pieces as the target wants them, zeros and nothing after its end.
class Input {
 public:
  explicit Input(std::string_view in) : rest_(in) {}
  bool empty() const { return rest_.empty(); }
  uint64_t Number(size_t bytes) {
    uint64_t n = 0;
    for (unsigned char c : Take(bytes)) n = n << 8 | c;
    return n;
  }
  uint8_t Byte() { return static_cast<uint8_t>(Number(1)); }
  std::string_view Take(size_t n) {
    const std::string_view piece = rest_.substr(0, n);
    rest_.remove_prefix(piece.size());
    return piece;
  }
  std::string_view Piece() { return Take(Number(2)); }   // with its length before it
  std::string_view Rest() { return Take(rest_.size()); }
  static std::string Pack(std::string_view piece) {      // what Piece reads
    return std::string{static_cast<char>(piece.size() >> 8), static_cast<char>(piece.size())} + std::string(piece);
  }

 private:
  std::string_view rest_;
};

}  // namespace orgtrail::fuzz
