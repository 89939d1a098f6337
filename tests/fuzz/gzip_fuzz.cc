// Rotated .gz files: read forward in steps of any size, and again from anywhere, they hold the same bytes or fail at the same offset. The
// first byte is the step, the next two are where the second reader begins.
#include "agent/capture/content.h"
#include "common/fs/file.h"
#include "tests/fuzz/target.h"
#include "tests/support/gzip.h"

namespace orgtrail::fuzz {
namespace {

constexpr size_t kEnough = 8 << 20;   // of what a bomb inflates to

class MemoryFile final : public File {
 public:
  explicit MemoryFile(std::string_view bytes) : bytes_(bytes) {}
  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override {
    return offset >= bytes_.size() ? 0 : bytes_.copy(out, n, static_cast<size_t>(offset));
  }
  absl::Status Append(std::string_view) override { return Not(); }
  absl::Status Sync() override { return Not(); }
  absl::Status Truncate(uint64_t) override { return Not(); }
  absl::StatusOr<FileFacts> Facts() override { return Not(); }

 private:
  static absl::Status Not() { return absl::UnimplementedError("only read"); }
  const std::string_view bytes_;
};

// From `offset` to the end, to damage, or to enough of it; what ended it.
std::string ReadFrom(Content& content, size_t offset, size_t step, absl::Status* end) {
  std::string all, piece(step, '\0');
  while (all.size() < kEnough) {
    const absl::StatusOr<size_t> got = content.ReadAt(offset + all.size(), piece.data(), piece.size());
    *end = got.status();
    if (!got.ok() || *got == 0) break;
    CHECK(*got <= step);
    all.append(piece, 0, *got);
  }
  return all;
}

}  // namespace

void One(std::string_view in) {
  Input input(in);
  const size_t step = 1 + size_t{input.Byte()} * 1021, from = static_cast<size_t>(input.Number(2)) * 64;
  MemoryFile file(input.Rest());
  const std::unique_ptr<Content> content = GzipContent(file), again = GzipContent(file);
  absl::Status end, other;
  const std::string all = ReadFrom(*content, 0, std::max<size_t>(step, 64), &end);
  CHECK(end.ok() || absl::IsDataLoss(end));
  if (all.size() >= kEnough || from > all.size()) return;
  const std::string rest = ReadFrom(*again, from, 4096, &other);
  CHECK(rest == all.substr(from));
  CHECK(other.code() == end.code());
  CHECK(ReadFrom(*content, from, 65536, &other) == rest);   // back from the end, or from the damage
  CHECK(other.code() == end.code());
}

std::vector<std::string> Seeds() {
  const std::string head("\x40\0\1", 3);
  return {head + Gzip("{\"Records\":[]}"), head + Gzip("one\n") + Gzip("two\n"), head + Gzip("") + std::string(512, '\0') + Gzip(std::string(100'000, 'a')),
          head + Gzip("cut short").substr(0, 20)};
}

}  // namespace orgtrail::fuzz
