// A target under libFuzzer. ORGTRAIL_FUZZ_SEEDS=DIR: its seeds are written there first; give DIR as a corpus.
#include <fstream>

#include <stdlib.h>

#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* dir = getenv("ORGTRAIL_FUZZ_SEEDS");
  if (dir == nullptr) return 0;
  size_t n = 0;
  for (const std::string& seed : orgtrail::fuzz::Seeds()) std::ofstream(std::string(dir) + "/seed-" + std::to_string(n++), std::ios::binary) << seed;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orgtrail::fuzz::One({reinterpret_cast<const char*>(data), size});
  return 0;
}
