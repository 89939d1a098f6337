#include "agent/capture/known_files.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace orgtrail {
namespace {

template <class Map, class Key>
void EraseOne(Map& map, const Key& key, const std::string& value) {
  auto [begin, end] = map.equal_range(key);
  for (auto it = begin; it != end; ++it) {
    if (it->second == value) {
      map.erase(it);
      return;
    }
  }
}

constexpr uint32_t kTellingHead = 256;  // enough of a head to trust it when the device number changed

}  // namespace

void KnownFiles::Put(FilePosition position) {
  if (auto old = known_.find(position.key); old != known_.end()) {
    old->second.position = std::move(position);
    return;
  }
  std::optional<FileIdentity> identity = FileIdentity::Parse(position.key);
  if (!identity) return;
  by_inode_.emplace(identity->inode, position.key);
  by_head_.emplace(identity->head, position.key);
  if (identity->head_bytes < kHeadBytes) ++short_heads_[identity->head_bytes];
  std::string key = position.key;
  known_.emplace(std::move(key), Known{*identity, std::move(position)});
}

void KnownFiles::Remove(const std::string& key) {
  auto it = known_.find(key);
  if (it == known_.end()) return;
  const FileIdentity& identity = it->second.identity;
  EraseOne(by_inode_, identity.inode, key);
  EraseOne(by_head_, identity.head, key);
  if (auto n = short_heads_.find(identity.head_bytes); n != short_heads_.end() && --n->second == 0)
    short_heads_.erase(n);
  known_.erase(it);
}

const KnownFiles::Known* KnownFiles::Find(const std::string& key) const {
  auto it = known_.find(key);
  return it == known_.end() ? nullptr : &it->second;
}

absl::StatusOr<const KnownFiles::Known*> KnownFiles::Itself(const FileFacts& facts, const std::string& path,
                                                            Content& content) const {
  const Known* best = nullptr;
  auto [begin, end] = by_inode_.equal_range(facts.inode);
  for (auto it = begin; it != end; ++it) {
    const Known& known = known_.at(it->second);
    const bool same_place = known.identity.device == facts.device ||
                            (known.position.path == path && known.identity.head_bytes >= kTellingHead);
    if (!same_place || (best != nullptr && best->position.offset >= known.position.offset)) continue;
    ASSIGN_OR_RETURN(const bool same, SameHead(content, known.identity));
    if (same) best = &known;
  }
  return best;
}

absl::StatusOr<const KnownFiles::Known*> KnownFiles::SameBeginning(const FileIdentity& identity,
                                                                   Content& content) const {
  std::vector<uint32_t> lengths = {static_cast<uint32_t>(kHeadBytes)};
  for (const auto& [length, count] : short_heads_) lengths.push_back(length);
  char head[kHeadBytes];
  ASSIGN_OR_RETURN(const size_t have, content.ReadAt(0, head, sizeof head));
  const Known* best = nullptr;
  for (const uint32_t length : lengths) {
    if (have < length) continue;
    auto [begin, end] = by_head_.equal_range(Sha256(std::string_view(head, length)));
    for (auto it = begin; it != end; ++it) {
      const Known& known = known_.at(it->second);
      if (known.identity.head_bytes != length || known.position.offset == 0 || known.position.mark.empty()) continue;
      if (known.identity.inode == identity.inode && known.identity.device == identity.device) continue;
      if (best == nullptr || best->position.offset < known.position.offset) best = &known;
    }
  }
  return best;
}

}  // namespace orgtrail
