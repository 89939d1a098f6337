// What must be true when everything has healed. Nothing here uses the code that decided it: chains, tree and counts are walked anew.
#include <algorithm>
#include <filesystem>

#include "aggregator/index/search.h"
#include "common/base/status.h"
#include "tests/sim/nodes.h"

namespace orgtrail::sim {
namespace {

struct Chain {
  uint64_t epoch = 0, batch_seq = 0, last_seq = 0, events = 0, lost = 0;
  Hash leaf;
  bool closed = false;
  std::set<std::pair<Hash, uint32_t>> slots;   // (tree, slot) that signed
  std::vector<std::string> lines;              // in the log's order; not those recorded once more behind a break
  std::set<std::string> recovered;             // those: an agent that goes down meanwhile records the rest behind what it captured since
  bool twice = false;                          // a line is in both, or in one more than once
  uint64_t gone = 0;                           // events that came without bodies
  bool gave_up = false;                        // a loss record says what a restored log and the spool both lack
  std::set<std::string> apart;                 // lines in quarantine
};

}  // namespace

void World::Judge() {
  const Ledger& ledger = *aggregator->ledger;
  const SignedHead head = ledger.head();
  std::vector<Hash> leaves;
  std::map<Uuid, Chain> chains;
  std::set<Hash> stored;
  std::set<BatchId> seen;
  std::map<uint64_t, Hash> roots;
  Frontier frontier;
  std::vector<std::string> feed, feed_own;
  std::set<EventRef> rows;
  std::set<Uuid> said_lost;                    // agents with loss records
  for (uint64_t i = 0; i < head.size; ++i) {
    const absl::StatusOr<std::string> entry = ledger.ReadEntry(i);
    const absl::StatusOr<std::shared_ptr<const Leaf>> read = ledger.Read(i);
    if (!entry.ok() || !read.ok()) return Fail(absl::StrCat("leaf ", i, " cannot be read: ", Describe(entry.ok() ? read.status() : entry.status())));
    const Hash hash = LeafHash(*entry);
    if (const absl::StatusOr<Hash> node = ledger.LeafHashAt(i); !node.ok() || *node != hash) return Fail(absl::StrCat("leaf ", i, " is not what the tree holds"));
    if (!stored.insert(hash).second && (*read)->is_batch) return Fail(absl::StrCat("leaf ", i, " is stored twice"));
    leaves.push_back(hash);
    frontier.Append(hash);
    roots[i + 1] = frontier.Root();
    const Leaf& leaf = **read;
    if (!leaf.is_batch) continue;
    ++outcome.batches;
    const bool apart = (leaf.flags & kLeafQuarantined) != 0;
    for (size_t r = 0; r < leaf.events.rows.size(); ++r) {
      const Row& row = leaf.events.rows[r];
      rows.insert({i, static_cast<uint32_t>(r)});
      const bool own = row.event_class == static_cast<uint16_t>(EventClass::kOwn) || row.event_class == static_cast<uint16_t>(EventClass::kLoss);
      if (row.event_class == static_cast<uint16_t>(EventClass::kLoss)) said_lost.insert(leaf.header.agent_uuid);
      if (apart) continue;
      feed_own.emplace_back(row.body);
      if (!own) feed.emplace_back(row.body);
    }
    const BatchHeader& h = leaf.header;
    if (apart) {
      for (const Row& row : leaf.events.rows) chains[h.agent_uuid].apart.insert(LineOf(row.body));
      continue;
    }
    const std::string where = absl::StrCat(h.agent, " (", h.epoch, ", ", h.batch_seq, ") at leaf ", i);
    if (villain.evil.contains(hash)) return Fail(where + " was forged and is in the log");
    if (!seen.insert({h.agent_uuid, h.epoch, h.batch_seq}).second) return Fail(where + " is there twice");
    Chain& chain = chains[h.agent_uuid];
    const bool opens = h.kind == BatchKind::kEpochOpen;
    if (h.prev_hash != chain.leaf) return Fail(where + " does not continue the leaf before it");
    if (opens ? h.epoch <= chain.epoch || h.batch_seq != 0 : h.epoch != chain.epoch || h.batch_seq != chain.batch_seq + 1 || chain.closed) {
      return Fail(where + absl::StrCat(" follows (", chain.epoch, ", ", chain.batch_seq, ")"));
    }
    if (opens) chain.last_seq = chain.events = chain.lost = 0;
    if (h.first_seq != chain.last_seq + 1) return Fail(where + " leaves out sequence numbers");
    chain.events += h.n_events;
    chain.lost += h.n_lost;
    if (h.cum_events != chain.events || h.cum_lost != chain.lost) return Fail(where + " does not add up");
    if (!chain.slots.emplace(h.keytree_root, h.key_slot).second) return Fail(where + " is signed with a key that signed before");
    chain.epoch = h.epoch;
    chain.batch_seq = h.batch_seq;
    chain.last_seq = h.last_seq;
    chain.leaf = hash;
    chain.closed = h.kind == BatchKind::kEpochClose;
    for (const Row& row : leaf.events.rows) {
      chain.gone += row.tombstone;
      if (std::string line = LineOf(row.body); line.empty()) {
      } else if ((row.flags & kFlagRecovered) != 0) {
        chain.twice |= !chain.recovered.insert(std::move(line)).second;
      } else {
        chain.lines.push_back(std::move(line));
      }
      chain.gave_up |= row.event_class == static_cast<uint16_t>(EventClass::kLoss) && row.body.find("\"batchesLost\":") != std::string_view::npos;
    }
  }
  outcome.records = rows.size();
  outcome.shards = ledger.stats().shards;

  // The tree, and every head that was ever shown.
  if (RootOf(leaves) != head.root) return Fail("the tree is not that of the leaves");
  if (head.size > 0 && !OpenCheckpoint(head.note, aggregator->log_vkey()).ok()) return Fail("the head is not signed");
  for (const auto& [size, root] : aggregator->shown) {
    if (size > 0 && roots[size] != root) return Fail(absl::StrCat("the head shown at ", size, " leaves is not one of this log"));
  }

  std::set<std::string> rotten;   // a copied disk has what was rotten in it
  for (const auto& agent : agents) rotten.insert(agent->rotten.begin(), agent->rotten.end());
  for (const auto& agent : agents) {
    // Acknowledged means stored, and what the agent pinned is this log.
    for (const auto& [key, leaf] : agent->proven) {
      if (agent->InGap(key)) continue;   // of the branch that the restored log lacks: recorded anew, or signed as lost
      if (!stored.contains(leaf)) return Fail(absl::StrCat(agent->name, " was told that (", key.epoch, ", ", key.batch_seq, ") is logged; it is not"));
    }
    const absl::StatusOr<Pin> pin = agent->spool->pin();
    if (!pin.ok()) return Fail(agent->name + " lost its pin");
    if (pin->size > 0 && (pin->size > head.size || roots[pin->size] != pin->root)) return Fail(agent->name + " pinned a head that is not of this log");
    // Every line once, in order; what two processes of one identity captured is in quarantine at least.
    const Chain& chain = chains[agent->identity.uuid];
    std::set<std::string> logged(chain.lines.begin(), chain.lines.end());
    logged.insert(chain.recovered.begin(), chain.recovered.end());
    if (chain.twice || logged.size() != chain.lines.size() + chain.recovered.size()) return Fail(agent->name + ": a line is in the feed twice");
    size_t at = 0;   // what a disk damaged before it was sent may be left out
    for (size_t i = 0; i < agent->lines.size() && at < chain.lines.size() && !agent->cloned; ++i) {
      const std::string want = LineOf(agent->lines[i]);
      if (chain.lines[at] == want) {
        ++at;
      } else if (!rotten.contains(want) && !agent->may_be_gone.contains(want) && !chain.recovered.contains(want) &&
                 !(agent->Doubled() && chain.apart.contains(want))) {
        return Fail(absl::StrCat(agent->name, ": line ", at, " in the log is ", chain.lines[at], ", expected ", want));
      }
    }
    if (at != chain.lines.size() && !agent->cloned) return Fail(agent->name + ": " + chain.lines[at] + " is in the log and should not be");
    if (agent->Doubled()) logged.insert(chain.apart.begin(), chain.apart.end());
    // The copy of a machine holds the same batches: whichever came first is the one the log has, whole or not.
    std::set<std::string> rotten;
    for (const auto& other : agents) {
      if (other->identity.uuid == agent->identity.uuid) rotten.insert(other->rotten.begin(), other->rotten.end());
    }
    uint64_t missing = 0;
    for (const std::string& line : agent->lines) {
      if (logged.contains(LineOf(line)) || (rotten.contains(LineOf(line)) && ++missing > 0)) continue;
      if (agent->may_be_gone.contains(LineOf(line)) && said_lost.contains(agent->identity.uuid)) continue;
      return Fail(absl::StrCat(agent->name, ": line ", LineOf(line), " is not in the log; ", chain.lines.size(), " of ", agent->lines.size(), " are in the feed"));
    }
    if (!agent->Doubled() && !chain.apart.empty()) return Fail(agent->name + " was put in quarantine without cause");
    outcome.gone += missing;
    if (!agent->Doubled()) {   // what is missing is signed as captured, counted, and somebody was told
      // … or in batches that are gone or have lost their place in the chain: then a record says so, if the disk did not damage that too.
      if (missing > chain.gone && !chain.gave_up && (agent->gaps.empty() || chain.gone == 0)) return Fail(absl::StrCat(agent->name, ": ", missing, " lines are missing, only ", chain.gone, " are signed as captured"));
      const std::optional<AgentHead> its_head = ledger.HeadOf(agent->identity.uuid);
      if (its_head && its_head->bodies_missing != chain.gone) {
        return Fail(absl::StrCat(agent->name, ": the log counts ", its_head->bodies_missing, " events without bodies, there are ", chain.gone));
      }
      const auto found = aggregator->findings.find(agent->identity.account + "/" + agent->identity.region + "/" + agent->identity.name);
      if (chain.gone > 0 && (found == aggregator->findings.end() || !found->second.contains("BODIES_MISSING"))) {
        return Fail(agent->name + " sent batches without bodies and nobody said so");
      }
    }
  }

  for (const Reader& reader : readers) {
    const std::vector<std::string>& want = reader.request.own() ? feed_own : feed;
    if (reader.got == want) continue;
    const auto [a, b] = std::mismatch(reader.got.begin(), reader.got.end(), want.begin(), want.end());
    return Fail(absl::StrCat(reader.name, " got ", reader.got.size(), " events, expected ", want.size(), "; they differ at ", a - reader.got.begin()));
  }

  HistoryQuery query;
  query.own = true;
  HistorySearch search(aggregator->history->snapshot(), query);
  std::set<EventRef> found;
  while (const std::optional<HistoryRecord> record = search.Next()) {
    if (!found.insert({record->leaf, record->event}).second) return Fail(absl::StrCat("the index has record ", record->event, " of leaf ", record->leaf, " twice"));
  }
  if (found != rows) return Fail(absl::StrCat("the index has ", found.size(), " records, the log ", rows.size()));
  JudgeFindings();
}

// An alarm for everything that was done, and none without cause.
void World::JudgeFindings() {
  const auto was = [&](Fault fault) { return struck.contains(fault); };
  for (const auto& agent : agents) {
    const std::string subject = agent->identity.account + "/" + agent->identity.region + "/" + agent->identity.name;
    const std::set<std::string>& found = aggregator->findings[subject];
    std::set<std::string> may{"STALE_HEARTBEAT"};
    if (agent->crashes > 0) may.insert("UNCLEAN_EPOCH");
    if (was(Fault::kClockJump)) may.insert("CLOCK_SKEW");
    if (was(Fault::kSpoolDamage)) may.insert("BODIES_MISSING");
    if (agent->Doubled()) may.insert({"EQUIVOCATION", "EPOCH_CONFLICT", "EPOCH_STALE", "UNCLEAN_EPOCH"});
    // Sent again in the same order, the same leaves make the same heads again, signed later than they were quoted.
    if (aggregator->restored) may.insert({"SPLIT_VIEW_SUSPECT", "CLOCK_SKEW", "RECORDS_MISSING"});
    if (!agent->gaps.empty()) may.insert("UNCLEAN_EPOCH");   // the new epoch follows one that never ended, as the log sees it
    for (const std::string& code : found) {
      if (!may.contains(code)) return Fail("an alarm without cause: " + code + " of " + agent->name);
    }
    if (agent->AlarmOwed()) return Fail(agent->name + " runs on an old copy of its disk and nobody said so");
    std::set<std::string> may_report;
    if (was(Fault::kForgedReceipt) || was(Fault::kForkedHead)) may_report.insert({"LEAF_MISSING", "LOG_FORKED"});
    if (agent->Doubled()) may_report.insert({"EQUIVOCATION", "EPOCH_CONFLICT", "EPOCH_STALE", "QUARANTINED"});
    if (aggregator->restored) may_report.insert({"LOG_RESTORED", "LOG_FORKED", "RECORDS_MISSING"});
    if (was(Fault::kSpoolDamage)) may_report.insert("SPOOL_TAMPER");
    if (was(Fault::kSpoolDamage) && agent->Doubled()) may_report.insert({"CHAIN_STUCK", "RECORDS_MISSING"});   // which of the two the log has, damage hides
    // Frames that overtake each other, as TLS does not let them, can make the log ask for one batch until the agent connects anew.
    if (was(Fault::kReorder)) may_report.insert("CHAIN_STUCK");
    if (was(Fault::kDiskFull)) may_report.insert("SPOOL_PRESSURE");
    for (const std::string& code : agent->reported) {
      if (!may_report.contains(code)) return Fail("a report without cause: " + code + " by " + agent->name);
    }
    if (agent->evidence_needed > 0 && !was(Fault::kDiskFull) && !was(Fault::kDiskError) && !agent->Doubled()) {
      std::error_code missing;
      std::filesystem::directory_iterator files(agent->disk.dir() + "/state/spool/evidence", missing);
      if (missing || files == std::filesystem::directory_iterator()) return Fail(agent->name + " was lied to and kept no evidence");
    }
  }
}

}  // namespace orgtrail::sim
