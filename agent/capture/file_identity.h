// FileIdentity: which file this is, whatever it is called. A rename keeps it, a truncation and a new file under the old name do not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/capture/content.h"
#include "common/crypto/digest.h"
#include "common/fs/file.h"

namespace orgtrail {

inline constexpr size_t kHeadBytes = 1024;
inline constexpr size_t kMarkBytes = 256;

// Device, inode and SHA-256 of the first `head_bytes`: min(1 KiB, size) when it was taken. A file that was shorter then and has
// grown still matches, and gets its longer identity with the next position that is committed.
struct FileIdentity {
  uint64_t device = 0, inode = 0;
  uint32_t head_bytes = 0;
  Hash head;

  std::string Key() const;                                    // "device-inode-headbytes-hex", the key of FilePosition
  static std::optional<FileIdentity> Parse(std::string_view key);
};

// `content` is the file's own bytes or, for a .gz, the inflated ones: the head is of those, so that a compressed rotation is known again.
absl::StatusOr<FileIdentity> Identify(const FileFacts& facts, Content& content);
// Whether the content begins with the bytes that `identity` was taken of.
absl::StatusOr<bool> SameHead(Content& content, const FileIdentity& identity);
// First 8 bytes of the SHA-256 of the (up to) 256 bytes before `offset`; empty when the content is shorter than offset.
absl::StatusOr<std::string> MarkAt(Content& content, uint64_t offset);

}  // namespace orgtrail
