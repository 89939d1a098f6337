#include "agent/capture/file_identity.h"

#include <algorithm>

#include "common/base/status.h"

namespace orgtrail {

std::string FileIdentity::Key() const {
  return absl::StrCat(device, "-", inode, "-", head_bytes, "-", Hex(head.view()));
}

std::optional<FileIdentity> FileIdentity::Parse(std::string_view key) {
  FileIdentity id;
  uint64_t head_bytes = 0;
  for (uint64_t* number : {&id.device, &id.inode, &head_bytes}) {
    const size_t dash = key.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    std::optional<uint64_t> n = ParseUint(key.substr(0, dash));
    if (!n) return std::nullopt;
    *number = *n;
    key.remove_prefix(dash + 1);
  }
  std::optional<std::string> head = Unhex(key);
  if (!head || head->size() != 32 || head_bytes == 0 || head_bytes > kHeadBytes) return std::nullopt;
  id.head_bytes = static_cast<uint32_t>(head_bytes);
  id.head = Hash::From(*head);
  return id;
}

absl::StatusOr<FileIdentity> Identify(const FileFacts& facts, Content& content) {
  char head[kHeadBytes];
  ASSIGN_OR_RETURN(const size_t n, content.ReadAt(0, head, sizeof head));
  FileIdentity id{facts.device, facts.inode, static_cast<uint32_t>(n), {}};
  id.head = Sha256(std::string_view(head, n));
  return id;
}

absl::StatusOr<bool> SameHead(Content& content, const FileIdentity& identity) {
  char head[kHeadBytes];
  const size_t want = std::min<size_t>(identity.head_bytes, sizeof head);
  ASSIGN_OR_RETURN(const size_t n, content.ReadAt(0, head, want));
  return n == want && Sha256(std::string_view(head, n)) == identity.head;
}

absl::StatusOr<std::string> MarkAt(Content& content, uint64_t offset) {
  char bytes[kMarkBytes];
  const size_t want = static_cast<size_t>(std::min<uint64_t>(offset, sizeof bytes));
  ASSIGN_OR_RETURN(const size_t n, content.ReadAt(offset - want, bytes, want));
  if (n < want) return std::string();
  return std::string(Sha256(std::string_view(bytes, n)).view().substr(0, 8));
}

}  // namespace orgtrail
