#include "aggregator/ingest/welcome.h"

#include <algorithm>
#include <vector>

#include "common/base/status.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail {
namespace {

constexpr size_t kHelloBytes = 4096, kRunBytes = 16, kVersionBytes = 64;
constexpr size_t kRecoveries = 16;   // shown to an agent: the newest

std::string Bytes(const Hash& hash) { return std::string(hash.view()); }

}  // namespace

std::optional<Hello> Hello::Parse(std::string_view message) {
  v1::PushRequest request;
  if (message.size() > kHelloBytes || !request.ParseFromArray(message.data(), static_cast<int>(message.size())) || !request.has_hello() ||
      request.hello().agent_uuid().size() != 16) {
    return std::nullopt;
  }
  const v1::Hello& h = request.hello();
  Hello hello;
  hello.uuid = Uuid::FromBytes(h.agent_uuid());
  hello.seen_size = h.seen_size();
  hello.seen_root = h.seen_root();
  hello.seen_origin = h.seen_origin();
  hello.version = h.version().substr(0, kVersionBytes);
  hello.run = h.run().substr(0, kRunBytes);
  hello.acked = {h.resend_from_epoch(), h.resend_from_batch_seq()};
  hello.oldest = {h.oldest_epoch(), h.oldest_batch_seq()};
  return hello;
}

v1::Welcome WelcomeDesk::Answer(const Hello& hello, const std::string& subject, const SignedHead& log) const {
  v1::Welcome w;
  w.set_origin(ledger_.origin());
  const std::optional<AgentHead> head = ledger_.HeadOf(hello.uuid);
  if (head) {
    w.set_head_epoch(head->epoch);
    w.set_head_batch_seq(head->batch_seq);
    w.set_head_leaf(Bytes(head->leaf));
    w.set_head_next_seq(head->last_seq + 1);
    w.set_quarantined(head->quarantined);
    if (const std::optional<uint64_t> oldest = ledger_.Find({hello.uuid, hello.oldest.first, hello.oldest.second})) {
      if (const absl::StatusOr<Hash> leaf = ledger_.LeafHashAt(*oldest); leaf.ok()) w.set_oldest_leaf(Bytes(*leaf));
    }
  }
  w.set_checkpoint(log.note);
  if (hello.seen_size > 0 && hello.seen_origin == ledger_.origin()) ShowConsistency(hello, subject, log, w);
  ShowRecoveries(log, w);
  FindMissing(hello, head, subject);
  return w;
}

// The agent's view of this log, checked against ours as ours will be against its.
void WelcomeDesk::ShowConsistency(const Hello& hello, const std::string& subject, const SignedHead& log, v1::Welcome& w) const {
  const auto suspect = [&](std::string detail) {
    if (!findings_) return;
    for (const auto known = registry_.Recoveries(); const LoggedRecovery& r : *known) {
      if (r.recovery.restored_size >= hello.seen_size) continue;
      return findings_("LOG_RESTORED", Severity::kInfo, subject, detail + "; that branch was given up by the recovery declared in leaf " +
                                                                     std::to_string(r.recovery.restored_size));
    }
    findings_("SPLIT_VIEW_SUSPECT", Severity::kPage, subject, detail);
  };
  if (hello.seen_size > log.size) {
    return suspect(absl::StrCat("the agent saw this log at ", hello.seen_size, " leaves; it has ", log.size,
                                ": it was rolled back, or somebody shows another log in its name"));
  }
  if (const absl::StatusOr<Hash> root = ledger_.Root(hello.seen_size); !root.ok() || root->view() != hello.seen_root) {
    return suspect(absl::StrCat("the agent saw another root than ours at ", hello.seen_size, " leaves"));
  }
  if (hello.seen_size == log.size) return;
  const absl::StatusOr<std::vector<Hash>> proof = ledger_.Consistency(hello.seen_size, log.size);
  if (!proof.ok()) return;
  for (const Hash& h : *proof) w.add_consistency(Bytes(h));
}

// What governance declared, proven.
void WelcomeDesk::ShowRecoveries(const SignedHead& log, v1::Welcome& w) const {
  const auto recoveries = registry_.Recoveries();
  for (size_t i = recoveries->size() - std::min(recoveries->size(), kRecoveries); i < recoveries->size(); ++i) {
    const LoggedRecovery& r = (*recoveries)[i];
    const uint64_t at = r.recovery.restored_size;
    if (at >= log.size) continue;
    const absl::StatusOr<std::vector<Hash>> path = ledger_.Inclusion(at, log.size), proof = ledger_.Consistency(at, log.size);
    if (!path.ok() || !proof.ok()) continue;
    v1::Recovery& out = *w.add_recoveries();
    out.set_leaf(r.leaf);
    for (const Hash& h : *path) out.add_path(Bytes(h));
    for (const Hash& h : *proof) out.add_consistency(Bytes(h));
  }
}

// When the log lacks what it once acknowledged to this agent: whether the agent still has it, or nobody.
void WelcomeDesk::FindMissing(const Hello& hello, const std::optional<AgentHead>& head, const std::string& subject) const {
  const std::pair<uint64_t, uint64_t> ours = head ? std::pair(head->epoch, head->batch_seq) : std::pair<uint64_t, uint64_t>(0, 0);
  if (hello.acked <= ours || (head && head->quarantined) || !findings_) return;
  const auto name = [](std::pair<uint64_t, uint64_t> b) { return absl::StrCat("epoch ", b.first, " batch ", b.second); };
  const bool has_next = hello.oldest <= ours || hello.oldest == std::pair(ours.first, ours.second + 1) || hello.oldest == std::pair(ours.first + 1, uint64_t{0});
  if (hello.oldest != std::pair<uint64_t, uint64_t>(0, 0) && has_next) {
    if (registry_.Recoveries()->empty()) return;
    findings_("LOG_RESTORED", Severity::kInfo, subject,
              "had acknowledgements through " + name(hello.acked) + ", the log stands at " + name(ours) + ": it sends again what came between");
  } else {
    findings_("RECORDS_MISSING", Severity::kPage, subject,
              "had acknowledgements through " + name(hello.acked) + "; the log stands at " + name(ours) + " and the agent's spool begins at " +
                  (hello.oldest.first == 0 ? std::string("nothing") : name(hello.oldest)) +
                  ": what lies between is neither in the log nor in the spool. A newer backup may have it; otherwise it is lost, and this "
                  "record says so");
  }
}

}  // namespace orgtrail
