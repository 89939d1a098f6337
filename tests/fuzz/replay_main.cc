// Runs a target over its seeds and the files of the folders given, over beginnings of each, and over each slightly damaged, always in
// the same ways: a corpus that is never run rots.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "tests/fuzz/target.h"

namespace {

#ifdef ORGTRAIL_FUZZ_SYNCS   // a target that waits for the disk
constexpr size_t kBeginnings = 40, kDamaged = 20;
#else
constexpr size_t kBeginnings = 400, kDamaged = 100;
#endif

void Run(std::string_view text) {
  // Memory of exactly this size: a sanitizer sees the first byte too far.
  const std::unique_ptr<char[]> exact(new char[text.size()]);
  std::copy(text.begin(), text.end(), exact.get());
  orgtrail::fuzz::One({exact.get(), text.size()});
}

void RunAll(const std::string& text) {
  Run(text);
  const size_t step = text.size() / kBeginnings + 1;
  for (size_t n = 0; n < text.size(); n += step) Run(std::string_view(text).substr(0, n));
  uint64_t state = text.size();
  const auto next = [&state] { return (state = state * 6364136223846793005u + 1442695040888963407u) >> 33; };
  for (size_t i = 0; i < kDamaged && !text.empty(); ++i) {
    std::string damaged = text;
    for (size_t n = next() % 4 + 1; n-- > 0;) damaged[next() % damaged.size()] = static_cast<char>(next());
    Run(damaged);
  }
}

}  // namespace

int main(int argc, char** argv) {
  size_t texts = 0;
  for (const std::string& seed : orgtrail::fuzz::Seeds()) {
    RunAll(seed);
    ++texts;
  }
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(entry.path(), std::ios::binary);
      RunAll(std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>()));
      ++texts;
    }
  }
  std::printf("%zu texts replayed\n", texts);
  return texts > 0 ? 0 : 1;
}
