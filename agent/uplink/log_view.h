// LogView: what this agent was shown of its log: the pinned head, kept in the spool, and the newest head of the stream under way. A head is
// believed when the pinned key signed it and it continues the one before.
//
// Threads  one at a time.
// Bytes    heads and their proofs: docs/formats/wire.md
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spool/spool.h"
#include "common/format/note.h"

namespace orgtrail {

namespace v1 {
class Welcome;
}

// The hashes of a proof as a message carries them. InvalidArgument: not 32 bytes each, or more than a tree of 2^64 leaves needs.
template <class Repeated>
absl::StatusOr<std::vector<Hash>> ProofOf(const Repeated& field) {
  constexpr int kMost = 64;
  if (field.size() > kMost) return absl::InvalidArgumentError("a proof of more than 64 hashes");
  std::vector<Hash> out;
  for (const std::string& h : field) {
    if (h.size() != 32) return absl::InvalidArgumentError("a proof hash that is not 32 bytes");
    out.push_back(Hash::From(h));
  }
  return out;
}

class LogView {
 public:
  // `accept_restored`: the operator says that the log was restored from an older copy; one contradiction is taken for that.
  LogView(NoteKey log_key, Pin pin, bool accept_restored) : log_key_(std::move(log_key)), pin_(std::move(pin)), may_restore_(accept_restored) {}

  const Pin& pin() const { return pin_; }
  Pin PinOf(const Checkpoint& head, std::string note) const;   // the pin moved there
  void SetPin(Pin pin) { pin_ = std::move(pin); }              // once the spool has it
  void BeginStream() { stream_size_ = 0; }                     // the next head is held against the pin

  struct Shown {
    Checkpoint head;
    std::string given_up;   // not empty: it contradicts the pin, which is given up for it, and on whose word
  };
  // A head, and the proof that it continues the one of `from` leaves. `welcome`: where declarations of a recovery are, when it is a
  // stream's first; else null. An error is a lie of the log's; its message is the finding.
  absl::StatusOr<Shown> Look(const std::string& note, uint64_t from, std::span<const Hash> proof, const v1::Welcome* welcome);
  // After a head that continues the pin: the policy of the first welcome says who governs from then on, and a declaration that was shown
  // once is never again a reason to give up a newer head. Whether the pin changed.
  bool Learn(const v1::Welcome& welcome);

 private:
  uint64_t shown_size() const { return stream_size_ == 0 ? pin_.size : stream_size_; }
  std::string Contradiction(const Checkpoint& head, std::span<const Hash> proof) const;
  absl::Status Declared(const v1::Welcome& welcome, const Checkpoint& head, std::string* words) const;

  const NoteKey log_key_;
  Pin pin_;
  uint64_t stream_size_ = 0;   // the newest head of this stream, and its root; 0: none yet
  Hash stream_root_;
  bool may_restore_;
};

}  // namespace orgtrail
