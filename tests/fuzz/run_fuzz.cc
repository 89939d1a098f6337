// A history run whose bytes are anything: opening says no, or reading stays within the file. An input is a whole file, or ("~" first)
// changes to a good one, checksum of the trailer mended: place (u16), byte.
#include <sys/mman.h>
#include <unistd.h>

#include "aggregator/index/run.h"
#include "aggregator/index/run_writer.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_dir.h"

namespace orgtrail::fuzz {
namespace {

std::string GoodRun() {
  const TempDir dir;
  const std::string path = dir / "run";
  std::vector<HistoryRecord> records;
  for (uint64_t i = 0; i < 300; ++i) records.push_back({static_cast<int64_t>(10'000 - i * 7), 1000 - i, static_cast<uint16_t>(i % 3), 0, 0});
  absl::StatusOr<std::unique_ptr<RunWriter>> writer = RunWriter::Create(PosixFs(), path, records.size());
  CHECK_OK(writer.status());
  CHECK_OK((*writer)->AddRecords(records));
  for (uint32_t density : {1u, 2u, 9u, 200u, 300u}) {
    std::vector<uint32_t> list;
    for (uint32_t i = 0; i < records.size(); i += density) list.push_back(i);
    CHECK_OK((*writer)->AddTerm(density * 1'000'003ull, list));
  }
  for (uint32_t host = 0; host < 60; ++host) {
    std::vector<uint32_t> list;
    for (uint32_t i = host; i < records.size(); i += 60 + host % 2 * 240) list.push_back(i);
    CHECK_OK((*writer)->AddTerm(AddressTerm(*ParseIp("10.0.0." + std::to_string(host))), list));
  }
  CHECK_OK((*writer)->Finish({.min_time_ns = records.back().time_ns, .max_time_ns = records[0].time_ns, .first_leaf = 701,
                              .next_leaf = 1001, .min_logged_ns = 1, .max_logged_ns = 2}));
  absl::StatusOr<std::string> bytes = ReadFile(PosixFs(), path);
  CHECK_OK(bytes.status());
  return *std::move(bytes);
}

void Read(std::string_view bytes) {
  const int fd = memfd_create("run", MFD_CLOEXEC);
  CHECK(fd >= 0 && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  absl::StatusOr<std::shared_ptr<const Run>> run = Run::Open("/proc/self/fd/" + std::to_string(fd));
  ::close(fd);
  if (!run.ok()) return;
  const bool good = (*run)->Verify().ok();
  int64_t sum = 0;
  for (const HistoryRecord& record : (*run)->records()) sum += record.time_ns & 1;
  for (uint64_t i = 0; i < (*run)->facts().terms && i < 1000; ++i) {
    const uint64_t term = (*run)->TermAt(i);
    Postings one = (*run)->PostingsAt(i), two = (*run)->Find(term);
    std::vector<uint32_t> all;
    const bool whole = one.AppendTo(&all);
    CHECK(whole || !good);
    uint32_t last = 0, n = 0;
    for (uint32_t o = two.Seek(0); o != kNoOrdinal && ++n < 100'000; o = two.Seek(o + 1)) {
      CHECK(o < (*run)->records().size() && (n == 1 || o > last));
      last = o;
    }
  }
  for (const char* range : {"10.0.0.0/27", "10.0.0.32/30", "0.0.0.0/0", "::/0"}) {
    const std::optional<std::vector<uint32_t>> found = (*run)->Gather(AddressTerms(*ParseCidr(range)), 250);
    if (!found.has_value()) continue;
    CHECK(std::is_sorted(found->begin(), found->end()));
    for (const uint32_t o : *found) CHECK(o < (*run)->records().size());
  }
  CHECK(sum >= 0);
}

}  // namespace

void One(std::string_view in) {
  if (!in.starts_with('~')) return Read(in);
  static const std::string* const good = new std::string(GoodRun());
  std::string bytes = *good;
  Input changes(in.substr(1));
  while (!changes.empty()) {
    const uint64_t at = changes.Number(2);
    bytes[at % bytes.size()] = static_cast<char>(changes.Byte());
  }
  constexpr size_t kTrailer = 112, kCrc = 100;   // docs/formats/history.md
  char* const trailer = bytes.data() + bytes.size() - kTrailer;
  const uint32_t crc = Crc32c({trailer, kCrc});
  std::memcpy(trailer + kCrc, &crc, sizeof crc);
  Read(bytes);
}

std::vector<std::string> Seeds() { return {GoodRun(), "~", std::string("~\0\5x\1\7y", 7)}; }

}  // namespace orgtrail::fuzz
