// KnownFiles: every file a source has read something of, by identity; what the spool holds, and what was handed over since.
// Finds the file itself under any name, and copies of it (copytruncate's, a compressed rotation) that carry on where it stood.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/capture/content.h"
#include "agent/capture/file_identity.h"
#include "agent/capture/source.h"

namespace orgtrail {

class KnownFiles {
 public:
  struct Known {
    FileIdentity identity;
    FilePosition position;
  };

  void Put(FilePosition position);                  // keys that are not ours are ignored
  void Remove(const std::string& key);
  const Known* Find(const std::string& key) const;
  const std::map<std::string, Known>& all() const { return known_; }

  // The file itself: same inode and head, and same device (a device number may change over a reboot: then the same path too).
  absl::StatusOr<const Known*> Itself(const FileFacts& facts, const std::string& path, Content& content) const;
  // A file with another inode whose content begins alike; of several, the one read furthest. Whether this one really is a copy
  // of it (and not a namesake with an equal beginning) is for the caller to find out from the bytes before an offset.
  absl::StatusOr<const Known*> SameBeginning(const FileIdentity& identity, Content& content) const;

 private:
  std::map<std::string, Known> known_;
  std::unordered_multimap<uint64_t, std::string> by_inode_;
  std::unordered_multimap<Hash, std::string> by_head_;
  std::map<uint32_t, int> short_heads_;             // lengths below 1 KiB that occur, and how often
};

}  // namespace orgtrail
