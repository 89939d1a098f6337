// The fuzzers' corpora and golden files through every decoder, and each of them damaged in a few hundred ways.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/common/format/decoders.h"
#include "tests/support/fixed_world.h"

namespace orgtrail {
namespace {

void EveryDecoder(std::string_view in) {
  fuzz::Frame(in);
  fuzz::Rows(in);
  fuzz::Entry(in);
  fuzz::Epoch(in);
  fuzz::Control(in);
  fuzz::Note(in);
  fuzz::Proof(in);
  fuzz::Token(in);
}

TEST(Corpus, DecodersReturn) {
  RepeatingRng rng("corpus");
  int files = 0;
  for (const char* dir : {"/tests/fuzz/common/format/corpus", "/tests/golden"}) {
    for (const auto& file : std::filesystem::directory_iterator(std::string(ORGTRAIL_SOURCE_DIR) + dir)) {
      if (!file.is_regular_file()) continue;
      std::ifstream in(file.path(), std::ios::binary);
      std::ostringstream text;
      text << in.rdbuf();
      const std::string bytes = text.str();
      ++files;
      EveryDecoder(bytes);
      for (int i = 0; i < 100 && !bytes.empty(); ++i) {
        std::string damaged = bytes;
        for (uint64_t n = rng.Below(4); n-- > 0;) damaged[rng.Below(damaged.size())] = static_cast<char>(rng.U64());
        if (rng.Below(3) == 0) damaged.resize(rng.Below(damaged.size()));
        EveryDecoder(damaged);
      }
    }
  }
  EXPECT_GE(files, 10);
}

}  // namespace
}  // namespace orgtrail
