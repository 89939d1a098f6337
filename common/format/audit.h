// Audit: whether a log, leaf by leaf, is what its agents signed: every hash, signature, chain link and root, with nothing but the
// leaves and a checkpoint. The core of `orgtrail verify ledger`.
//
// Threads  Add and Finish: one. The heavy part (inflate, re-hash, signatures) runs on `threads` of its own.
// Bounds   256 leaves at a time in memory, plus 32 KiB of keys per live tree, of which an agent in quarantine may have 64.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/format/chain.h"
#include "common/format/control.h"
#include "common/format/note.h"
#include "common/format/quarantine.h"
#include "common/format/retention.h"
#include "common/merkle/tree.h"

namespace orgtrail {

struct AuditFinding {
  enum class Kind { kTampered, kIncomplete, kNote };  // kNote: strict mode calls some of these incomplete
  Kind kind = Kind::kTampered;
  uint64_t leaf = 0;
  std::string what;
};

struct AuditReport {
  uint64_t leaves = 0, batches = 0, events = 0, lost = 0, tombstones = 0, bodies_missing = 0, agents = 0, epochs = 0, unclean_epochs = 0;
  uint64_t unexplained = 0;             // of the lost: no loss record within the next batch of their agent says why
  uint64_t quarantined = 0;             // batches that are set apart, each with evidence, or there is a finding
  uint64_t expired = 0;                 // of the tombstones: gone by an order of governance that the log holds, or there is a finding
  Hash root;
  std::vector<AuditFinding> findings;   // at most 1,000; `more` counts the rest
  uint64_t more = 0;
};

class Audit {
 public:
  // `checkpoint` is what the log claims; its signature is the caller's to check. `reread` is called by Finish() when batches are
  // marked as quarantined: their evidence is checked against the log. Without it they are a finding. `now_ns` is the verifier's clock: no
  // body has expired by an order of the future.
  Audit(int threads, const Checkpoint& checkpoint, RereadLog reread = nullptr, int64_t now_ns = INT64_MAX);
  ~Audit();
  // The next leaf's bytes: a whole OTF1 for a batch, else the control entry; `quarantined` as the ledger marked it.
  void Add(std::string bytes, bool quarantined);
  // Compares the tree with the checkpoint. Leaves beyond it are audited too.
  AuditReport Finish();

 private:
  struct Item;
  struct Agent;
  struct Keys;
  void Drain();
  void Prepare(Item& item);            // in order: which keys, which identity
  static void KeepApart(Agent& agent, std::shared_ptr<const Keys> keys);
  static std::shared_ptr<const Keys> TreeApart(const Agent& agent, const Hash& root);
  static void Check(Item& item);       // any thread: hashes and signatures
  void Link(Item& item);               // in order: chain and tree
  void FollowRetention(Item& item);
  void JudgeExpired();
  void Explain(Agent& agent, const Item& item, const std::string& who);
  void Find(AuditFinding::Kind kind, uint64_t leaf, std::string what);

  const int threads_;
  const Checkpoint checkpoint_;
  const RereadLog reread_;
  const int64_t now_ns_;
  QuarantineAudit quarantine_;
  RetentionHistory retention_;
  std::map<int64_t, uint64_t> seen_;    // by the hour of agents' clocks: how much of the log a batch quoted
  std::deque<uint64_t> expired_;        // the newest leaves with bodies that expired
  Hash root_at_checkpoint_;
  std::vector<std::unique_ptr<Item>> group_;
  std::map<Uuid, Agent> agents_;
  std::map<Uuid, IdentityLeaf> identities_;
  Frontier frontier_;
  uint64_t next_ = 0;
  AuditReport report_;
};

}  // namespace orgtrail
