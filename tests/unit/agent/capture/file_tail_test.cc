// FileTail over real files, with an intake that keeps what it took like the spool does: texts and positions together.
#include "agent/capture/file_tail.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "tests/support/gzip.h"
#include "tests/support/manual_clock.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

namespace stdfs = std::filesystem;

class FakeIntake final : public Intake {
 public:
  absl::StatusOr<Taken> Take(const RawChunk& chunk) override {
    if (refuse_after == 0) return absl::ResourceExhaustedError("spool is full");
    if (refuse_after > 0) --refuse_after;
    for (std::string_view text : chunk.texts) texts.emplace_back(text);
    if (chunk.cut) cut.push_back(*chunk.cut);
    for (const FilePosition& p : chunk.positions) {
      if (p.forget) {
        positions.erase(p.key);
      } else {
        positions[p.key] = p;
      }
    }
    EXPECT_LE(chunk.texts.size(), 1000u);
    ++takes;
    return Taken{};
  }
  absl::StatusOr<std::vector<FilePosition>> Positions() override {
    std::vector<FilePosition> all;
    for (const auto& [key, p] : positions) all.push_back(p);
    return all;
  }
  absl::StatusOr<std::string> IdempotentReply(std::string_view) override { return absl::NotFoundError(""); }
  void Lost(std::string_view source, std::string_view cause, uint32_t, std::string_view detail) override {
    lost.push_back(absl::StrCat(ToAbsl(source), " ", ToAbsl(cause), " ", ToAbsl(detail)));
  }

  std::vector<std::string> texts;
  std::vector<WholeText> cut;
  std::map<std::string, FilePosition> positions;
  std::vector<std::string> lost;
  int refuse_after = -1, takes = 0;
};

std::string Line(int n) { return absl::StrCat("{\"eventID\":\"", n, "\",\"pad\":\"", std::string(n % 90, 'x'), "\"}"); }
std::string Lines(int from, int to) {
  std::string text;
  for (int n = from; n < to; ++n) text += Line(n) + "\n";
  return text;
}

class FileTailTest : public ::testing::Test {
 protected:
  void Append(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::app | std::ios::binary) << text;
  }
  void Gz(const std::string& name, const std::string& text) { Append(name, Gzip(text)); }
  void Restart() { tail_.reset(); }
  void Step() {
    if (tail_ == nullptr) {
      FileTailOptions options;
      options.path = dir_ / glob_;
      options.from_end = from_end_;
      options.max_line_bytes = max_line_;
      tail_ = std::make_unique<FileTail>(options, intake_, PosixFs(), clock_);
    }
    for (int rounds = 0; rounds < 200; ++rounds) {
      absl::StatusOr<bool> more = tail_->Step();
      if (!more.ok() || !*more) return;
    }
    FAIL() << "never caught up";
  }
  void Settle() {  // long enough for anything that waits
    for (int i = 0; i < 3; ++i) {
      clock_.Advance(absl::Seconds(6));
      Step();
    }
  }
  void ExpectExactly(int from, int to, const std::string& what = "") {
    std::vector<std::string> want, got = intake_.texts;
    for (int n = from; n < to; ++n) want.push_back(Line(n));
    std::sort(want.begin(), want.end());
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got.size(), want.size()) << what;
    EXPECT_TRUE(got == want) << what;
  }

  TempDir dir_;
  ManualClock clock_;
  FakeIntake intake_;
  std::string glob_ = "audit.jsonl";
  bool from_end_ = false;
  size_t max_line_ = 64 << 20;
  std::unique_ptr<FileTail> tail_;
};

TEST_F(FileTailTest, TakesWhatIsThereAndWhatComes) {
  Append("audit.jsonl", Lines(0, 3));
  Step();
  ExpectExactly(0, 3);
  Append("audit.jsonl", Line(3) + "\r\n\n" + Line(4));
  Step();
  ExpectExactly(0, 4);
  Settle();
  ExpectExactly(0, 4, "an unterminated line waits");
  Append("audit.jsonl", "\n");
  Step();
  ExpectExactly(0, 5);
  EXPECT_EQ(intake_.texts.back(), Line(4));
  EXPECT_EQ(intake_.positions.size(), 1u) << "a grown head replaces the shorter one's position";
}

TEST_F(FileTailTest, FromEndSkipsOnlyWhatWasThereAtTheVeryFirstStart) {
  from_end_ = true;
  Append("audit.jsonl", Lines(100, 150) + "half a line");
  Step();
  ExpectExactly(0, 0);
  Restart();
  std::ofstream(dir_ / "audit.jsonl", std::ios::app) << "\n" << Lines(0, 5);
  Step();
  ASSERT_EQ(intake_.texts.size(), 6u) << "what came while it was down is read";
  EXPECT_EQ(intake_.texts[0], "half a line");
}

TEST_F(FileTailTest, AFullIntakeLosesAndRepeatsNothing) {
  Append("audit.jsonl", Lines(0, 5000));
  for (int takes = 0; takes < 8; ++takes) {
    intake_.refuse_after = 1;
    Step();
    if (takes == 3) Restart();
  }
  intake_.refuse_after = -1;
  Step();
  ExpectExactly(0, 5000);
}

TEST_F(FileTailTest, ManyFilesOldestFirst) {
  glob_ = "*.jsonl";
  for (int f = 0; f < 400; ++f) {
    const std::string name = absl::StrCat("f", f, ".jsonl");
    Append(name, Lines(f, f + 1));
    stdfs::last_write_time(dir_ / name, stdfs::file_time_type::clock::now() - std::chrono::seconds(1000 - f));
  }
  Step();
  ExpectExactly(0, 400, "more files than may be open at once");
  EXPECT_EQ(intake_.texts.front(), Line(0));
  EXPECT_EQ(intake_.texts.back(), Line(399));
  Append("f7.jsonl", Lines(400, 401));
  Step();
  ExpectExactly(0, 401);
}

TEST_F(FileTailTest, LongLinesAreWholeAndTooLongOnesCutAndTold) {
  max_line_ = 4 << 20;
  const std::string long_line(3 << 20, 'a'), too_long(6 << 20, 'b');
  Append("audit.jsonl", Line(0) + "\n" + long_line + "\n" + too_long.substr(0, 5 << 20));
  Step();
  ASSERT_EQ(intake_.texts.size(), 2u);
  EXPECT_TRUE(intake_.texts[1] == long_line);
  Append("audit.jsonl", too_long.substr(5 << 20) + "\n" + Line(1) + "\n");
  Step();
  ASSERT_EQ(intake_.texts.size(), 4u);
  EXPECT_TRUE(intake_.texts[2] == too_long.substr(0, max_line_));
  EXPECT_EQ(intake_.texts[3], Line(1));
  ASSERT_EQ(intake_.lost.size(), 1u);
  EXPECT_NE(intake_.lost[0].find("6291456 bytes"), std::string::npos) << intake_.lost[0];
}

TEST_F(FileTailTest, OfALineThatIsCutTheHashAndLengthOfAllOfItAreHandedOver) {
  max_line_ = limits::kRecordBytes + 1;
  for (const char* end : {"\n", "\r\n"}) {
    SCOPED_TRACE(end[0] == '\r');
    std::string line;
    while (line.size() < 40 << 20) line += Line(static_cast<int>(line.size() % 1000)) + "\r ";
    line += "}";
    intake_.cut.clear();
    Append("audit.jsonl", Line(0) + "\n" + line.substr(0, 30 << 20));
    Step();
    Restart();   // half way
    Append("audit.jsonl", line.substr(30 << 20) + end + Line(1) + "\n");
    intake_.refuse_after = 0;
    Step();
    intake_.refuse_after = -1;
    Step();
    ASSERT_EQ(intake_.cut.size(), 1u);
    EXPECT_EQ(intake_.cut[0].bytes, line.size());
    EXPECT_EQ(intake_.cut[0].sha256, Sha256(line));
    EXPECT_EQ(intake_.texts.back(), Line(1));
  }
}

TEST_F(FileTailTest, RecordsFilesAreSplitWhole) {
  glob_ = "*";
  std::string records = "{\"Records\":[";
  for (int n = 0; n < 2500; ++n) records += (n ? "," : "") + Line(n);
  records += "]}";
  Append("a.json", records.substr(0, 20'000));
  Step();
  ExpectExactly(0, 0, "half a file waits");
  Append("a.json", records.substr(20'000));
  Step();
  ExpectExactly(0, 2500);
  Gz("b.json.gz", "{ \"Records\" : [" + Line(2500) + "]}\n");
  Append("empty.json", "{\"Records\":[]}");
  Append("lines.json", "{\"Records\":[" + Line(2501) + "]}\n{\"Records\":[" + Line(2502) + "]}\n");
  Step();
  Settle();
  ExpectExactly(0, 2503);
  Restart();
  Step();
  Settle();
  ExpectExactly(0, 2503, "done is done");
  for (const auto& [key, p] : intake_.positions) EXPECT_TRUE(p.finished) << p.path;
}

TEST_F(FileTailTest, RecordsFilesResumeInTheMiddle) {
  std::string records = "{\"Records\":[";
  for (int n = 0; n < 2500; ++n) records += (n ? "," : "") + Line(n);
  Append("audit.jsonl", records + "]}");
  intake_.refuse_after = 2;
  Step();
  EXPECT_EQ(intake_.texts.size(), 2000u);
  Restart();
  intake_.refuse_after = -1;
  Step();
  ExpectExactly(0, 2500);
}

TEST_F(FileTailTest, CertainLossIsTold) {
  Append("audit.jsonl", Lines(0, 100));
  Step();
  Append("audit.jsonl", Lines(100, 200));
  intake_.refuse_after = 0;
  Step();
  stdfs::resize_file(dir_ / "audit.jsonl", 0);
  Append("audit.jsonl", Lines(200, 210));
  intake_.refuse_after = -1;
  Step();
  ASSERT_EQ(intake_.lost.size(), 1u);
  EXPECT_NE(intake_.lost[0].find("truncated with at least"), std::string::npos) << intake_.lost[0];
  EXPECT_EQ(intake_.texts.size(), 110u);
}

TEST_F(FileTailTest, ADamagedGzGivesWhatItHasAndIsTold) {
  glob_ = "*.gz";
  std::string gz = Gzip(Lines(0, 20'000));
  gz.resize(gz.size() / 2);
  Append("a.gz", gz);
  Step();
  const size_t early = intake_.texts.size();
  EXPECT_TRUE(intake_.lost.empty());
  Settle();
  EXPECT_GT(intake_.texts.size(), 1000u);
  EXPECT_GE(intake_.texts.size(), early);
  ASSERT_EQ(intake_.lost.size(), 1u);
  EXPECT_NE(intake_.lost[0].find("decode"), std::string::npos) << intake_.lost[0];
}

TEST_F(FileTailTest, PositionsOfLongGoneFilesAreForgotten) {
  Append("audit.jsonl", Lines(0, 100));
  Step();
  stdfs::remove(dir_ / "audit.jsonl");
  Step();
  Settle();
  EXPECT_EQ(intake_.positions.size(), 1u);
  for (int hour = 0; hour < 30; ++hour) {
    clock_.Advance(absl::Hours(1));
    Step();
  }
  EXPECT_TRUE(intake_.positions.empty());
}

TEST_F(FileTailTest, ItsThreadSeesAppends) {
  FileTailOptions options;
  options.path = dir_ / glob_;
  struct Signalling final : Intake {
    Guarded<size_t> count{0};
    absl::StatusOr<Taken> Take(const RawChunk& chunk) override {
      count.With([&](size_t& n) { n += chunk.texts.size(); });
      return Taken{};
    }
    absl::StatusOr<std::vector<FilePosition>> Positions() override { return std::vector<FilePosition>(); }
    absl::StatusOr<std::string> IdempotentReply(std::string_view) override { return absl::NotFoundError(""); }
    void Lost(std::string_view, std::string_view, uint32_t, std::string_view) override {}
    bool Reaches(size_t want) {
      return count.WhenFor(
          absl::Seconds(20), [&](size_t n) { return n >= want; }, [](size_t, bool ok) { return ok; });
    }
  } intake;
  FileTail tail(options, intake, PosixFs(), SystemClock());
  ASSERT_TRUE(tail.Start().ok());
  Append("audit.jsonl", Lines(0, 10));
  EXPECT_TRUE(intake.Reaches(10));
  Append("audit.jsonl", Lines(10, 20));
  EXPECT_TRUE(intake.Reaches(20));
  tail.Stop();
}

// Every way a log is rotated, as a list of deeds. After each deed the tail may look or not, and may be restarted or
// not: all combinations must take each line exactly once.
struct Rotation {
  const char* name;
  const char* glob;
  std::vector<std::function<void(const std::string& dir)>> deeds;
  int lines;
};

void AppendTo(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::app | std::ios::binary) << text;
}
std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
std::function<void(const std::string&)> Write(const char* name, int from, int to, const char* tail = "") {
  return [=](const std::string& dir) { AppendTo(dir + "/" + name, Lines(from, to) + tail); };
}
std::function<void(const std::string&)> Rename(const char* from, const char* to) {
  return [=](const std::string& dir) { stdfs::rename(dir + "/" + from, dir + "/" + to); };
}
std::function<void(const std::string&)> Copy(const char* from, const char* to) {
  return [=](const std::string& dir) { stdfs::copy_file(dir + "/" + from, dir + "/" + to); };
}
std::function<void(const std::string&)> Cut(const char* name) {
  return [=](const std::string& dir) { stdfs::resize_file(dir + "/" + name, 0); };
}
std::function<void(const std::string&)> Compress(const char* from, const char* to) {
  return [=](const std::string& dir) {
    AppendTo(dir + "/" + to, Gzip(Slurp(dir + "/" + from)));
    stdfs::remove(dir + "/" + from);
  };
}

std::vector<Rotation> Rotations() {
  return {
      {"rename inside the glob",
       "audit*",
       {Write("audit.jsonl", 0, 50), Write("audit.jsonl", 50, 60), Rename("audit.jsonl", "audit.jsonl.1"),
        Write("audit.jsonl.1", 60, 65), Write("audit.jsonl", 65, 90)},
       90},
      {"rename out of the glob",
       "audit.jsonl",
       {Write("audit.jsonl", 0, 50), Write("audit.jsonl", 50, 60), Rename("audit.jsonl", "audit.jsonl.1"),
        Write("audit.jsonl.1", 60, 65), Write("audit.jsonl", 65, 90)},
       90},
      {"rename, then compress, all in the glob",
       "audit*",
       {Write("audit.jsonl", 0, 50), Rename("audit.jsonl", "audit.jsonl.1"), Write("audit.jsonl", 50, 90),
        Compress("audit.jsonl.1", "audit.jsonl.1.gz"), Rename("audit.jsonl.1.gz", "audit.jsonl.2.gz"),
        Write("audit.jsonl", 90, 95)},
       95},
      {"rename twice",
       "audit*",
       {Write("audit.jsonl", 0, 50), Rename("audit.jsonl", "audit.jsonl.1"), Write("audit.jsonl", 50, 90),
        Rename("audit.jsonl.1", "audit.jsonl.2"), Rename("audit.jsonl", "audit.jsonl.1"), Write("audit.jsonl", 90, 95)},
       95},
      {"copytruncate, copy in the glob",
       "audit*",
       {Write("audit.jsonl", 0, 50), Write("audit.jsonl", 50, 70), Copy("audit.jsonl", "audit.jsonl.1"),
        Cut("audit.jsonl"), Write("audit.jsonl", 70, 80), Write("audit.jsonl", 80, 130)},
       130},
      {"copytruncate, copy beside",
       "audit.jsonl",
       {Write("audit.jsonl", 0, 50),
        [](const std::string& dir) {
          AppendTo(dir + "/audit.jsonl", Lines(50, 70));
          stdfs::copy_file(dir + "/audit.jsonl", dir + "/audit.jsonl.1");
          stdfs::resize_file(dir + "/audit.jsonl", 0);
        },
        Write("audit.jsonl", 70, 80)},
       80},
      {"the old one ends without a line end",
       "audit*",
       {Write("audit.jsonl", 0, 50, "{\"eventID\":\"50\","),
        [](const std::string& dir) { AppendTo(dir + "/audit.jsonl", Line(50).substr(16)); },
        Rename("audit.jsonl", "audit.jsonl.1"), Write("audit.jsonl", 51, 60)},
       60},
      {"short files by rename",
       "audit*",
       {Write("audit.jsonl", 0, 1), Write("audit.jsonl", 1, 3), Rename("audit.jsonl", "audit.jsonl.1"),
        Write("audit.jsonl", 3, 4)},
       4},
  };
}

TEST(FileTailRotations, EveryLineOnceWheneverItLooksOrRestarts) {
  for (const Rotation& rotation : Rotations()) {
    // Per deed: 0 nobody looks, 1 the tail looks, 2 it looks and is restarted, 3 it looks with a full intake, then
    // restarts.
    const size_t n = rotation.deeds.size();
    size_t combinations = 1;
    for (size_t i = 0; i < n; ++i) combinations *= 4;
    const size_t stride = std::max<size_t>(1, combinations / 50) | 1;
    for (size_t c = 0; c < combinations; c += stride) {
      TempDir dir;
      ManualClock clock;
      FakeIntake intake;
      std::unique_ptr<FileTail> tail;
      const auto look = [&] {
        if (tail == nullptr) {
          FileTailOptions options;
          options.path = dir / rotation.glob;
          tail = std::make_unique<FileTail>(options, intake, PosixFs(), clock);
        }
        for (int rounds = 0; rounds < 50; ++rounds) {
          absl::StatusOr<bool> more = tail->Step();
          if (!more.ok() || !*more) break;
        }
      };
      std::string plan;
      size_t rest = c;
      for (size_t i = 0; i < n; ++i, rest /= 4) {
        rotation.deeds[i](dir.path());
        // A file that left the glob before it was ever looked at is nobody's: the first look is always made.
        const size_t act = i == 0 ? 1 + rest % 2 : rest % 4;
        plan += static_cast<char>('0' + act);
        clock.Advance(absl::Milliseconds(200));
        if (act == 0) continue;
        if (act == 3) intake.refuse_after = 0;
        look();
        intake.refuse_after = -1;
        if (act >= 2) tail.reset();
      }
      for (int i = 0; i < 4; ++i) {
        clock.Advance(absl::Seconds(6));
        look();
      }
      std::vector<std::string> want, got = intake.texts;
      for (int line = 0; line < rotation.lines; ++line) want.push_back(Line(line));
      std::sort(want.begin(), want.end());
      std::sort(got.begin(), got.end());
      ASSERT_TRUE(got == want) << rotation.name << ", plan " << plan << ": " << got.size() << " of " << want.size()
                               << " lines";
      EXPECT_TRUE(intake.lost.empty()) << rotation.name << ", plan " << plan << ": " << intake.lost[0];
    }
  }
}

}  // namespace
}  // namespace orgtrail
