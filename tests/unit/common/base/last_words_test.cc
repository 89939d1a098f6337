#include "common/base/last_words.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/fs/map.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

TEST(LastWordsDeathTest, NameTheFileThatWasCutShortAndWhatToDo) {
  const struct {
    const char* dir;
    const char* remedy;
  } cases[] = {{"state/ledger/shard-000003", "orgtrail repair"}, {"state/derived/history", "remove derived/history"}, {"spool", "from a backup"}};
  for (const auto& c : cases) {
    const TempDir dir;
    const std::string at = dir.path() + "/" + c.dir, path = at + "/data.mdb";
    std::filesystem::create_directories(at);
    std::ofstream(path) << std::string(64 << 10, 'x');
    const auto touch = [&] {
      NameFilesThatFail();
      const auto file = MappedFile::Open(path);
      std::filesystem::resize_file(path, 8 << 10);
      volatile char byte = (*file)->bytes()[40 << 10];
      (void)byte;
    };
    EXPECT_EXIT(touch(), testing::KilledBySignal(SIGABRT), "FATAL /.*" + std::string(c.dir) + "/data.mdb: a page of it cannot be read.*" + c.remedy);
  }
}

}  // namespace
}  // namespace orgtrail
