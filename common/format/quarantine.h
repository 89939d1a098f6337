// QuarantineAudit: whether the batches a ledger has set apart were set apart for a reason.
//
// A ledger marks the batches of an agent whose key was used twice (flag 1 of the leaf, not hashed, not signed); the chain check passes
// over them. So the mark alone must not be believed: whoever may write the ledger's files could hide a removed batch behind it. Before
// the first batch that is set apart, and after the last one of the chain itself, the log must hold a leaf OTV1 with what the agent
// signed; the signature is checked with keys of the log, and that it contradicts the chain as it stood then.
//
// Path     Audit, in the log's order → Accuse, Continued, Apart; then Judge, which reads the log once more if anything was set apart
// Threads  one.
// Bounds   4 accusations (60 KiB each at most) for an agent at a time, and those of every branch set apart.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/format/batch.h"
#include "common/format/chain.h"
#include "common/format/control.h"
#include "common/merkle/tree.h"

namespace orgtrail {

// Reads the log's leaves [0, to) again, in order: whole frames for batches, as Audit::Add takes them. `take` returns false to stop.
using RereadLog = std::function<absl::Status(uint64_t to, const std::function<bool(std::string_view bytes)>& take)>;

struct QuarantineVerdict {
  bool justified = false;
  uint64_t leaf = 0;          // the first that is set apart
  std::string what;           // one sentence: which leaves, and the evidence or what is wrong with it
};

class QuarantineAudit {
 public:
  void Accuse(uint64_t leaf, const EvidenceLeaf& evidence);   // an OTV1 of the log
  void Continued(const Uuid& uuid);                           // a batch of the agent's chain itself
  // A batch that is set apart; `object` is its frame. `chain` is where the agent's chain stands, `before` the tree without it.
  void Apart(uint64_t leaf, const BatchHeader& header, std::string_view object, const ChainState& chain,
             std::string_view identity_key, const Frontier& before);
  // One verdict a branch. Not ok: the log could not be read again, or is not the one that was audited (DataLoss).
  absl::StatusOr<std::vector<QuarantineVerdict>> Judge(const RereadLog& reread);

 private:
  struct Accusation {         // what the agent signed, and what the log says about its place
    uint64_t leaf = 0;        // of the evidence, or of the batch itself
    bool itself = false;      // the batch that is set apart stands for itself: the ledger holds both
    std::string code;
    std::string object;       // an entry, or a frame
    std::string entry_bytes;  // of it, once decoded
    BatchHeader header;
    Hash hash;
    bool logged = false;      // as it is, before `leaf`
    std::string slot_key;     // from the log's key tree; empty: none there
    bool Decode();
  };
  struct Branch {
    std::string who, identity_key;
    uint64_t first = 0, last = 0, batches = 0;
    ChainState chain;
    std::vector<Accusation> accusations;
  };
  static absl::Status Contradicts(const Branch& branch, const Accusation& accusation);
  void Look(std::string_view frame, uint64_t leaf);           // a leaf read again

  std::map<Uuid, std::vector<Accusation>> accused_;           // since the agent's last batch of the chain
  std::map<Uuid, std::vector<Branch>> branches_;
  std::map<Uuid, bool> apart_;                                // whether the agent's newest batch is set apart
  uint64_t reread_to_ = 0;
  Hash reread_root_;
};

}  // namespace orgtrail
