#include "common/lmdb/short_file.h"

#include <unistd.h>

#include <cstring>
#include <set>
#include <string>
#include <string_view>

namespace orgtrail::lmdb {
namespace {

// The parts of LMDB's format this needs. A page begins with 16 bytes: u64 number, u16 pad, u16 flags, u16 lower (end of
// the node offsets), u16 upper; an overflow page has its length in pages where lower and upper are.
constexpr size_t kPageHeader = 16, kNodeHeader = 8;
constexpr uint16_t kBranch = 0x01, kLeaf = 0x02, kOverflow = 0x04, kMeta = 0x08, kBigData = 0x01;
// In a meta page: after the header magic (4), version (4), address (8), map size (8), the free list's database record
// (48 bytes, its root last), the main one's (48), last page (8), transaction id (8).
constexpr size_t kFreeRoot = kPageHeader + 24 + 40, kMetaTxn = kPageHeader + 24 + 96 + 8;
constexpr uint64_t kNoPage = ~0ull;

template <class T>
T At(std::string_view bytes, size_t offset) {
  T value{};
  if (offset + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

class FreeList {
 public:
  FreeList(int fd, uint64_t pages, uint64_t page_bytes) : fd_(fd), pages_(pages), page_bytes_(page_bytes) {}

  bool Read() {
    std::string a, b;
    if (!Load(0, 1, kMeta, &a) || !Load(1, 1, kMeta, &b)) return false;
    const std::string& newest = At<uint64_t>(a, kMetaTxn) > At<uint64_t>(b, kMetaTxn) ? a : b;
    const uint64_t root = At<uint64_t>(newest, kFreeRoot);
    return root == kNoPage || Walk(root, 0);
  }
  bool Holds(uint64_t page) const { return free_.contains(page); }

 private:
  bool Load(uint64_t page, uint64_t count, uint16_t flag, std::string* out) {
    if (page >= pages_ || count == 0 || count > pages_ - page) return false;
    out->resize(count * page_bytes_);
    if (::pread(fd_, out->data(), out->size(), static_cast<off_t>(page * page_bytes_)) !=
        static_cast<ssize_t>(out->size())) {
      return false;
    }
    return (At<uint16_t>(*out, 10) & flag) != 0;
  }

  bool Walk(uint64_t number, int depth) {
    std::string page;
    if (depth > 32 || ++visited_ > pages_ || !Load(number, 1, kBranch | kLeaf, &page)) return false;
    const bool branch = (At<uint16_t>(page, 10) & kBranch) != 0;
    const size_t lower = At<uint16_t>(page, 12);
    for (size_t at = kPageHeader; at < lower; at += 2) {
      const size_t node = At<uint16_t>(page, at);
      if (node + kNodeHeader > page.size()) return false;
      const uint64_t low = At<uint16_t>(page, node), high = At<uint16_t>(page, node + 2);
      const uint16_t flags = At<uint16_t>(page, node + 4), key_bytes = At<uint16_t>(page, node + 6);
      if (branch) {
        if (!Walk(low | high << 16 | static_cast<uint64_t>(flags) << 32, depth + 1)) return false;
        continue;
      }
      const uint64_t size = low | high << 16;
      const size_t data = node + kNodeHeader + key_bytes;
      if ((flags & kBigData) == 0) {
        if (data + size > page.size()) return false;
        Take(std::string_view(page).substr(data, size));
        continue;
      }
      std::string overflow;
      if (data + 8 > page.size()) return false;
      if (!Load(At<uint64_t>(page, data), (kPageHeader + size + page_bytes_ - 1) / page_bytes_, kOverflow, &overflow))
        return false;
      Take(std::string_view(overflow).substr(kPageHeader, size));
    }
    return true;
  }

  // A value: u64 count, then that many page numbers.
  void Take(std::string_view list) {
    const uint64_t count = At<uint64_t>(list, 0);
    for (uint64_t i = 1; i <= count && (i + 1) * 8 <= list.size(); ++i) {
      const uint64_t page = At<uint64_t>(list, i * 8);
      if (page >= pages_) free_.insert(page);
    }
  }

  const int fd_;
  const uint64_t pages_, page_bytes_;
  uint64_t visited_ = 0;
  std::set<uint64_t> free_;  // only those beyond the end of the file
};

}  // namespace

bool MissingPagesAreFree(int fd, uint64_t file_bytes, uint64_t page_bytes, uint64_t last_page) {
  const uint64_t pages = file_bytes / page_bytes;
  FreeList list(fd, pages, page_bytes);
  if (!list.Read()) return false;
  for (uint64_t page = pages; page <= last_page; ++page) {
    if (!list.Holds(page)) return false;
  }
  return true;
}

}  // namespace orgtrail::lmdb
