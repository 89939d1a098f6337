#include "common/format/audit.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/compress/zstd.h"
#include "common/format/batch.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/format/recovery.h"

namespace orgtrail {
namespace {

constexpr size_t kGroup = 256;
constexpr size_t kFindings = 1000;
constexpr int64_t kHour = 3'600'000'000'000, kDay = 24 * kHour;
constexpr size_t kTreesApart = 64;   // of one agent in quarantine: its branches sign side by side, each with trees of its own

}  // namespace

struct Audit::Keys {
  uint64_t tree_base = 0;
  Hash root;
  std::vector<PublicKey> keys;
};

struct Audit::Agent {
  ChainState chain;
  std::map<uint64_t, std::shared_ptr<const Keys>> trees;   // by tree_base, of the epoch under way
  std::deque<std::shared_ptr<const Keys>> apart;           // of branches in quarantine, the newest last
  uint64_t epoch = 0;
  uint64_t unexplained = 0;                                // lost with its newest batch; the next one may say why
};

struct Audit::Item {
  uint64_t index = 0;
  std::string bytes;
  bool quarantined = false;
  bool is_batch = false, unchecked = false;
  FrameView view;
  BatchEntry entry;
  EpochOpening opening;                      // epoch_open
  Hash new_root;                             // keytree_roll
  std::shared_ptr<const Keys> keys;          // whose slot signed it
  std::string identity_key;                  // of its agent; empty: no enrolment seen
  std::string identity_error;
  Hash leaf;
  uint64_t tombstones = 0, expired = 0, bodies_missing = 0;
  bool explains = false;                     // a loss record is among its rows, or may have been
  std::vector<std::string> broken;           // what Check found
  std::string undecodable;
  std::optional<Recovery> recovery;          // OTL1
  std::optional<EvidenceLeaf> evidence;      // OTV1
};

Audit::Audit(int threads, const Checkpoint& checkpoint, RereadLog reread, int64_t now_ns)
    : threads_(threads < 1 ? 1 : threads), checkpoint_(checkpoint), reread_(std::move(reread)), now_ns_(now_ns), retention_(checkpoint.origin) {}
Audit::~Audit() = default;

void Audit::Find(AuditFinding::Kind kind, uint64_t leaf, std::string what) {
  if (report_.findings.size() < kFindings) {
    report_.findings.push_back({kind, leaf, std::move(what)});
  } else {
    ++report_.more;
  }
}

void Audit::Add(std::string bytes, bool quarantined) {
  auto item = std::make_unique<Item>();
  item->index = next_++;
  item->bytes = std::move(bytes);
  item->quarantined = quarantined;
  group_.push_back(std::move(item));
  if (group_.size() == kGroup) Drain();
}

// A branch in quarantine signs with trees of its own, or with those of the chain it left.
void Audit::KeepApart(Agent& agent, std::shared_ptr<const Keys> keys) {
  agent.apart.push_back(std::move(keys));
  if (agent.apart.size() > kTreesApart) agent.apart.pop_front();
}

std::shared_ptr<const Audit::Keys> Audit::TreeApart(const Agent& agent, const Hash& root) {
  for (const auto& keys : agent.apart) {
    if (keys->root == root) return keys;
  }
  for (const auto& [base, keys] : agent.trees) {
    if (keys->root == root) return keys;
  }
  return nullptr;
}

void Audit::Prepare(Item& item) {
  item.is_batch = item.bytes.starts_with("OTF1");
  if (!item.is_batch) {
    const std::string_view magic = LeafMagic(item.bytes);
    if (magic == "OTV1") {
      absl::StatusOr<EvidenceLeaf> evidence = EvidenceLeaf::Decode(item.bytes);
      if (evidence.ok()) {
        item.evidence = *std::move(evidence);
      } else {
        item.undecodable = std::string(evidence.status().message());
      }
    } else if (magic == "OTP1") {
      if (const absl::Status decoded = PolicyLeaf::Decode(item.bytes).status(); !decoded.ok()) item.undecodable = std::string(decoded.message());
    } else if (magic == "OTL1") {
      absl::StatusOr<RecoveryLeaf> leaf = RecoveryLeaf::Decode(item.bytes);
      absl::StatusOr<Recovery> recovery =
          leaf.ok() ? Recovery::Decode(std::string_view(leaf->note).substr(0, leaf->note.rfind("\n\n") + 1)) : leaf.status();
      if (recovery.ok()) {
        item.recovery = *std::move(recovery);
      } else {
        item.undecodable = std::string(recovery.status().message());
      }
    } else if (magic == "OTR2") {
      if (const absl::Status decoded = RetentionLeaf::Decode(item.bytes).status(); !decoded.ok()) item.undecodable = std::string(decoded.message());
    } else if (magic != "OTN1") {
      item.undecodable = magic == "OTB1" ? "a batch's entry without its frame: the records are missing" : "bytes of no kind this release writes";
    } else {
      absl::StatusOr<IdentityLeaf> act = IdentityLeaf::Decode(item.bytes);
      if (!act.ok()) {
        item.undecodable = std::string(act.status().message());
        return;
      }
      if (act->act == IdentityLeaf::Act::kEnrolled && act->identity_key.size() == 32) {
        const auto [known, fresh] = identities_.try_emplace(act->uuid, *act);  // the first counts: a uuid is never given twice
        if (!fresh && known->second.identity_key != act->identity_key) {
          item.broken.push_back("uuid " + act->uuid.ToString() + " is enrolled again with another identity key");
        }
      }
    }
    return;
  }
  absl::StatusOr<FrameView> view = FrameView::Decode(item.bytes);
  if (!view.ok()) {
    item.undecodable = std::string(view.status().message());
    return;
  }
  item.view = *view;
  absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(view->entry);
  if (!entry.ok()) {
    item.undecodable = std::string(entry.status().message());
    return;
  }
  item.entry = *std::move(entry);
  const BatchHeader& h = item.entry.header;
  Agent& agent = agents_[h.agent_uuid];
  if (auto it = identities_.find(h.agent_uuid); it != identities_.end()) {
    item.identity_key = it->second.identity_key;
    Identity said;
    said.org = h.org;
    said.account = h.account;
    said.region = h.region;
    said.name = h.agent;
    if (it->second.uri != said.ToUri()) item.identity_error = "enrolled as " + it->second.uri + ", signs as " + said.ToUri();
  }
  absl::Status extension = CheckExtension(h, item.view.extension, &item.opening, &item.new_root);
  if (!extension.ok()) item.broken.emplace_back(extension.message());
  if (h.kind == BatchKind::kEpochOpen && extension.ok()) {
    auto keys = std::make_shared<Keys>();
    keys->root = h.keytree_root;
    keys->keys = item.opening.keys;
    if (agent.epoch != h.epoch && !item.quarantined) {
      agent.trees.clear();
      agent.epoch = h.epoch;
    }
    if (!item.quarantined) agent.trees[0] = keys;
    item.keys = keys;
    if (item.quarantined) KeepApart(agent, std::move(keys));
  } else if (item.quarantined) {
    item.keys = TreeApart(agent, h.keytree_root);
  } else if (h.batch_seq >= h.key_slot) {
    if (auto it = agent.trees.find(h.batch_seq - h.key_slot); it != agent.trees.end() && agent.epoch == h.epoch) item.keys = it->second;
  }
  if (h.kind == BatchKind::kKeytreeRoll && extension.ok()) {
    absl::StatusOr<std::vector<PublicKey>> list = DecodeKeyList(item.view.extension);
    if (list.ok()) {
      auto keys = std::make_shared<Keys>();
      keys->tree_base = h.batch_seq + 1;
      keys->root = item.new_root;
      keys->keys = *std::move(list);
      if (item.quarantined) {
        KeepApart(agent, std::move(keys));
      } else {
        while (agent.trees.size() > 1) agent.trees.erase(agent.trees.begin());
        agent.trees[keys->tree_base] = std::move(keys);
      }
    }
  }
}

void Audit::Check(Item& item) {
  thread_local ZstdDecompressor zstd;
  if (!item.undecodable.empty()) {
    item.leaf = LeafHash(item.bytes);
    return;
  }
  if (!item.is_batch) {
    item.leaf = LeafHash(item.bytes);
    return;
  }
  item.leaf = LeafHash(item.view.entry);
  const BatchHeader& h = item.entry.header;
  const auto broken = [&](const absl::Status& s, std::string_view what) {
    if (!s.ok()) item.broken.push_back(std::string(what) + ": " + std::string(s.message()));
  };
  if (item.keys == nullptr || h.key_slot >= item.keys->keys.size()) {
    if (item.quarantined) {
      item.unchecked = true;
    } else {
      item.broken.emplace_back("SLOT_UNKNOWN: no key tree of this epoch holds its slot");
    }
  } else {
    if (h.keytree_root != item.keys->root) item.broken.emplace_back("SLOT_UNKNOWN: its keytree_root is not that of the tree in use");
    broken(VerifySignature(item.keys->keys[h.key_slot], kBatchLabel, item.entry.header_bytes, item.entry.slot_signature), "SIG_INVALID, one-time key");
  }
  if (h.TwoSignatures()) {
    absl::StatusOr<PublicKey> key = ParsePublicKey(item.identity_key);
    if (!key.ok()) {
      item.broken.emplace_back("no enrolment of this agent's uuid is in the log before it");
    } else {
      broken(VerifySignature(*key, kEpochLabel, item.entry.header_bytes, item.entry.identity_signature), "SIG_INVALID, identity key");
    }
  }
  if (item.view.bodies_gone) {
    if (h.n_events == 0) item.broken.emplace_back("FRAME_MALFORMED bodies missing of a batch that has none");
    if (item.view.bodies_gone == TombstoneReason::kExpired) item.broken.emplace_back("bodies that expire leave their hashes; this batch has none");
    item.bodies_missing = h.n_events;
    item.explains = true;
    return;
  }
  absl::StatusOr<Events> events = InflateFrame(item.view, zstd);
  if (!events.ok()) {
    item.broken.push_back("bodies: " + std::string(events.status().message()));
    return;
  }
  const RowHashes hashes = HashRows(item.view.batch_key, events->rows);
  broken(CheckRows(h, events->rows, hashes), "bodies");
  item.explains = std::any_of(events->rows.begin(), events->rows.end(), [](const Row& row) {
    return row.tombstone || row.event_class == static_cast<uint16_t>(EventClass::kLoss);
  });
  for (const Row& row : events->rows) {
    item.tombstones += row.tombstone;
    item.expired += row.tombstone && row.reason == TombstoneReason::kExpired;
  }
}

// What the log says about retention, against the rules for it and against what agents signed.
void Audit::FollowRetention(Item& item) {
  const size_t before = retention_.raises().size();
  const std::optional<uint64_t> known = retention_.newest() ? std::optional(retention_.newest()->leaf) : std::nullopt;
  if (const absl::Status taken = retention_.Take(item.index, item.bytes); !taken.ok()) {
    item.broken.push_back("retention: " + std::string(taken.message()));
    return;
  }
  if (const auto& newest = retention_.newest(); newest && newest->leaf != known) {
    Find(AuditFinding::Kind::kNote, item.index,
         "governance ordered that bodies are kept for " + std::to_string(newest->order.keep_days) + " days; in effect from " +
             Rfc3339(absl::FromUnixNanos(newest->effective_ns)));
  }
  if (retention_.raises().size() == before) return;
  const RetentionHistory::Raise& raise = retention_.raises().back();
  if (raise.wall_ns > now_ns_ && raise.wall_ns - now_ns_ > kDay) {
    item.broken.push_back("retention: bodies expired at " + Rfc3339(absl::FromUnixNanos(raise.wall_ns)) + ", which is not yet");
  }
  const int64_t floor_ns = raise.wall_ns - kRetentionFloorDays * kDay;
  const bool is_old = std::any_of(seen_.begin(), seen_.lower_bound(floor_ns / kHour), [&](const auto& s) { return s.second >= raise.minimum; });
  if (!is_old) {
    item.broken.push_back("retention: no agent had seen leaf " + std::to_string(raise.minimum - 1) + " by " + Rfc3339(absl::FromUnixNanos(floor_ns)) +
                          ": bodies went that were not " + std::to_string(kRetentionFloorDays) + " days old");
  }
}

void Audit::JudgeExpired() {
  for (const uint64_t leaf : expired_) {
    if (retention_.Of(leaf) == nullptr) Find(AuditFinding::Kind::kTampered, leaf, "its bodies are gone as expired, and no order in the log covers them");
  }
  if (retention_.raises().empty()) return;
  for (const RetentionHistory::Raise& r : retention_.raises()) {
    Find(AuditFinding::Kind::kNote, r.leaf,
         "bodies of leaves " + std::to_string(r.from) + " to " + std::to_string(r.minimum - 1) + ", logged up to " + Rfc3339(absl::FromUnixNanos(r.newest_ns)) +
             ", expired at " + Rfc3339(absl::FromUnixNanos(r.wall_ns)) + " by governance's order to keep " + std::to_string(r.keep_days) + " days");
  }
}

void Audit::Link(Item& item) {
  if (!item.is_batch && item.undecodable.empty()) FollowRetention(item);
  if (item.recovery) {
    const Recovery& r = *item.recovery;
    if (r.origin != checkpoint_.origin || r.restored_size != item.index || r.restored_root != frontier_.Root()) {
      item.broken.emplace_back("a recovery is declared here that is not of this place of this log");
    } else {
      Find(AuditFinding::Kind::kNote, item.index,
           "governance declared a recovery at " + Rfc3339(absl::FromUnixNanos(r.time_ns)) + ": the log goes on from its first " +
               std::to_string(r.restored_size) + " leaves; " +
               (r.lost_size > r.restored_size ? "of another " + std::to_string(r.lost_size - r.restored_size) + " it is known that they were signed"
                                              : std::string("no signed leaf behind them is known")) +
               ". Agents sent again what they still had; proofs of what stood there before do not hold in this log");
    }
  }
  if (item.quarantined && item.is_batch && item.undecodable.empty()) {
    const BatchHeader& h = item.entry.header;
    ++report_.quarantined;
    quarantine_.Apart(item.index, h, item.bytes, agents_[h.agent_uuid].chain, item.identity_key, frontier_);
  }
  if (item.evidence) quarantine_.Accuse(item.index, *item.evidence);
  frontier_.Append(item.leaf);
  ++report_.leaves;
  if (frontier_.size() == checkpoint_.size) root_at_checkpoint_ = frontier_.Root();
  if (!item.undecodable.empty()) {
    Find(AuditFinding::Kind::kTampered, item.index, item.undecodable);
    return;
  }
  for (std::string& what : item.broken) Find(AuditFinding::Kind::kTampered, item.index, std::move(what));
  if (!item.is_batch) return;
  const BatchHeader& h = item.entry.header;
  ++report_.batches;
  report_.events += h.n_events;
  report_.lost += h.n_lost;
  report_.tombstones += item.tombstones;
  report_.expired += item.expired;
  if (item.expired != 0) {
    expired_.push_back(item.index);
    if (expired_.size() > kFindings) expired_.pop_front();   // what an order covers is below all that it does not
  }
  uint64_t& seen = seen_[static_cast<int64_t>(h.wall_close_ns) / kHour];
  seen = std::max(seen, h.seen_size);
  const std::string who = h.account + "/" + h.region + "/" + h.agent;
  report_.bodies_missing += item.bodies_missing;
  if (item.bodies_missing != 0) {
    Find(AuditFinding::Kind::kIncomplete, item.index,
         who + ": epoch " + std::to_string(h.epoch) + " batch " + std::to_string(h.batch_seq) + ": the bodies of its " +
             std::to_string(item.bodies_missing) + " records (seq " + std::to_string(h.first_seq) + " to " + std::to_string(h.last_seq) + ") are gone (" +
             std::string(TombstoneReasonName(*item.view.bodies_gone)) + "); the signed entry and its place in the chain verify");
  }
  if (item.unchecked) Find(AuditFinding::Kind::kIncomplete, item.index, who + ": in quarantine, and no key tree of the log before it holds its slot: its signature was not checked");
  if (!item.identity_error.empty()) Find(AuditFinding::Kind::kTampered, item.index, who + ": " + item.identity_error);
  if (item.quarantined) return;                // its chain need not fit; whether that is so for a reason, Finish() says
  quarantine_.Continued(h.agent_uuid);
  Agent& agent = agents_[h.agent_uuid];
  const bool opens = h.kind == BatchKind::kEpochOpen;
  if (opens) ++report_.epochs;
  if (opens && item.opening.reason == EpochReason::kUnclean) {
    ++report_.unclean_epochs;
    Find(AuditFinding::Kind::kNote, item.index, who + ": epoch " + std::to_string(h.epoch) + " follows an unclean end");
  }
  if (h.n_lost != 0) {
    Find(AuditFinding::Kind::kNote, item.index, who + ": " + std::to_string(h.n_lost) + " events lost at the source, signed as lost");
  }
  Explain(agent, item, who);
  if (agent.chain.epoch == 0) agent.chain.uuid = h.agent_uuid;
  if (absl::Status linked = CheckLink(agent.chain, h, opens ? &item.opening : nullptr); !linked.ok()) {
    Find(AuditFinding::Kind::kTampered, item.index, who + ": chain: " + std::string(linked.message()));
  }
  agent.chain = Advance(agent.chain, h, item.leaf, item.new_root);
}

// A loss is signed with its batch; the record that says why may come with the next one, because the open batch can be full when it happens.
void Audit::Explain(Agent& agent, const Item& item, const std::string& who) {
  const BatchHeader& h = item.entry.header;
  if (item.explains) {
    agent.unexplained = 0;
    return;
  }
  if (h.kind == BatchKind::kKeytreeRoll) return;   // it holds no records
  uint64_t settled = std::exchange(agent.unexplained, h.n_lost);
  if (h.kind == BatchKind::kEpochClose) settled += std::exchange(agent.unexplained, 0);   // nothing comes after it
  if (settled == 0) return;
  report_.unexplained += settled;
  Find(AuditFinding::Kind::kNote, item.index, who + ": " + std::to_string(settled) + " events are missing at epoch " + std::to_string(h.epoch) + " batch " +
                                                  std::to_string(h.batch_seq) + " or just before it, and no loss record says why");
}

void Audit::Drain() {
  for (auto& item : group_) Prepare(*item);
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < group_.size();) Check(*group_[i]);
  };
  std::vector<std::thread> helpers;
  for (int t = 1; t < threads_; ++t) helpers.emplace_back(work);
  work();
  for (std::thread& t : helpers) t.join();
  for (auto& item : group_) Link(*item);
  group_.clear();
}

AuditReport Audit::Finish() {
  Drain();
  if (absl::StatusOr<std::vector<QuarantineVerdict>> verdicts = quarantine_.Judge(reread_); verdicts.ok()) {
    for (QuarantineVerdict& v : *verdicts) {
      Find(v.justified ? AuditFinding::Kind::kNote : AuditFinding::Kind::kTampered, v.leaf, std::move(v.what));
    }
  } else {
    Find(absl::IsDataLoss(verdicts.status()) ? AuditFinding::Kind::kTampered : AuditFinding::Kind::kIncomplete, 0,
         std::string(verdicts.status().message()));
  }
  JudgeExpired();
  report_.agents = agents_.size();
  report_.root = frontier_.Root();
  if (frontier_.size() < checkpoint_.size) {
    Find(AuditFinding::Kind::kIncomplete, frontier_.size(),
         "the checkpoint covers " + std::to_string(checkpoint_.size) + " leaves, only " + std::to_string(frontier_.size()) + " are here");
  } else if (checkpoint_.size == 0 ? checkpoint_.root != EmptyRoot() : root_at_checkpoint_ != checkpoint_.root) {
    Find(AuditFinding::Kind::kTampered, checkpoint_.size, "the leaves do not hash to the checkpoint's root " + Base64(checkpoint_.root.view()));
  }
  return std::move(report_);
}

}  // namespace orgtrail
