// What is said about a frame that does not pass: to its agent, to the log, to people. And how much an agent may ask for. Of Verifier::Lane.
#include <algorithm>

#include "aggregator/verify/lane.h"
#include "common/base/status.h"
#include "common/format/control.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kFindingEvery = absl::Minutes(1);
constexpr absl::Duration kExpectEvery = absl::Seconds(1);
constexpr size_t kEvidenceBytes = 4096;
constexpr std::string_view kWhatNow =
    ". From here on its records are kept apart, in quarantine: revoke this agent and enrol it anew, with an empty state_dir and a new token";

std::string SubjectOf(const Identity& id) { return id.account + "/" + id.region + "/" + id.name; }

}  // namespace

std::string Where(uint64_t epoch, uint64_t batch_seq) { return absl::StrCat("epoch ", epoch, " batch ", batch_seq); }

std::string CodeOf(const absl::Status& status, std::string_view fallback) {
  const std::string_view message = ToStd(status.message());
  const std::string_view word = message.substr(0, message.find(' '));
  const bool is_code = word.size() >= 4 && std::all_of(word.begin(), word.end(),
                                                       [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; });
  return std::string(is_code ? word : fallback);
}

bool Verifier::Lane::Refuse(Job& job, Refused why) {
  shared_.metrics
      .GetCounter("orgtrail_verify_refused_total", "Frames refused, by code: docs/formats/wire.md says what each means.", {{"code", why.code}})
      .Add();
  why.from = job.in.from;
  shared_.verdicts.Refuse(std::move(why));
  return false;
}

bool Verifier::Lane::Refuse(Job& job, std::string_view code, std::string detail, bool closes) {
  return Refuse(job, Refused{.code = std::string(code), .detail = std::move(detail), .closes = closes});
}

// By its code: what is not authentic leaves evidence, what cannot be read a finding; the stream ends either way, because what
// follows on it continues a batch that is not there.
bool Verifier::Lane::RefuseStatus(Job& job, const absl::Status& status, std::string_view fallback) {
  const std::string code = CodeOf(status, fallback);
  std::string detail(ToStd(status.message()));
  if (detail.starts_with(code)) detail.erase(0, std::min(code.size() + 1, detail.size()));
  if (code == "VERSION_UNKNOWN") {
    Find(job, "VERSION_SKEW", Severity::kWarn, "the agent speaks a version this aggregator does not know: upgrade the aggregator. " + detail);
  } else if (code == "SIG_INVALID" || code == "SLOT_UNKNOWN" || code == "ROOT_MISMATCH" || code == "COUNT_MISMATCH") {
    KeepEvidence(job, code, detail, UINT64_MAX, job.view.entry.substr(0, kEvidenceBytes));
    Find(job, code, Severity::kWarn, detail);
  } else if (code != "LEDGER_READ") {
    Find(job, code, Severity::kWarn, detail);
  }
  return Refuse(job, code, std::move(detail), true);
}

bool Verifier::Lane::AlreadyTold(Job& job) {
  Agent& agent = *job.agent;
  if (agent.rewinding == job.in.from && job.now - agent.rewinding_since < kExpectEvery) return true;
  agent.rewinding = job.in.from;
  agent.rewinding_since = job.now;
  return false;
}

// The stream is where a CHAIN_EXPECT sent it: what comes next and does not fit is news.
void Verifier::Lane::Rewound(Job& job) {
  if (job.agent->rewinding == job.in.from) job.agent->rewinding = 0;
}

bool Verifier::Lane::Expect(Job& job, Of what) {
  Agent& agent = *job.agent;
  if (AlreadyTold(job)) return false;
  Refused r;
  r.code = "CHAIN_EXPECT";
  if (what == Of::kBranch) {
    // Each stream has a branch of its own: what follows its newest batch, or its epoch once more from the beginning.
    r.epoch = job.header().epoch;
    r.batch_seq = agent.branches.NextOf(job.in.from, r.epoch);
    r.detail = "got " + Where(job.header().epoch, job.header().batch_seq) + ", but not what comes before it";
  } else if (agent.head) {
    r.epoch = agent.head->epoch;
    r.batch_seq = agent.head->batch_seq + 1;
    r.detail = "got " + Where(job.header().epoch, job.header().batch_seq) + ", expected what follows " +
               Where(agent.head->epoch, agent.head->batch_seq);
  } else {
    r.detail = "got " + Where(job.header().epoch, job.header().batch_seq) + "; this log knows nothing of this agent yet";
  }
  return Refuse(job, std::move(r));
}

// The chain contradicts itself: evidence, and from here on the agent's batches are kept apart.
bool Verifier::Lane::Conflict(Job& job, std::string_view code, std::string detail, uint64_t related) {
  Agent& agent = *job.agent;
  // What sets a branch apart is always kept, however much was kept before: without it the ledger's mark is worth nothing.
  if (!std::exchange(agent.quarantined, true)) agent.evidence = 0;
  if (agent.head) {
    agent.head->quarantined = true;
    if (agent.tree && agent.tree->epoch == agent.head->epoch && agent.tree->tree_base == agent.head->tree_base) {
      agent.branches.Add({agent.head->leaf, agent.head->epoch, agent.head->batch_seq, agent.tree, 0});
    }
  }
  detail += kWhatNow;
  // Whoever checks it later needs the signed header whole, and of an opening what it continues.
  KeepEvidence(job, code, detail, related, job.header().kind == BatchKind::kEpochOpen ? std::string_view(job.in.frame) : job.view.entry);
  Find(job, code, Severity::kPage, detail);
  return Refuse(job, code, std::move(detail), true);
}

void Verifier::Lane::KeepEvidence(Job& job, std::string_view code, std::string_view detail, uint64_t related,
                                  std::string_view object) {
  if (job.agent == nullptr) return;
  Agent& agent = *job.agent;
  if (agent.evidence == 0 || job.now - agent.evidence_since > absl::Hours(1)) {
    agent.evidence_since = job.now;
    agent.evidence = 0;
  }
  if (++agent.evidence > shared_.options.evidence_per_hour) return;
  EvidenceLeaf evidence;
  evidence.code = std::string(code);
  evidence.wall_ns = static_cast<uint64_t>(shared_.clock.WallNanos());
  evidence.uri = job.in.caller->identity.ToUri();
  evidence.related_leaf = related;
  evidence.detail = std::string(detail.substr(0, 512));
  evidence.object = std::string(object);
  Admitted item;
  item.leaf = std::make_shared<Leaf>();
  item.leaf->bytes = evidence.Encode();
  Send(std::move(item), 0);
}

void Verifier::Lane::Find(Job& job, std::string_view code, Severity severity, std::string detail) {
  if (job.agent != nullptr) {
    auto [it, fresh] = job.agent->found.try_emplace(std::string(code), Agent::Told{job.now, severity});
    Agent::Told& last = it->second;
    if (!fresh && severity <= last.severity && job.now - last.at < kFindingEvery) return;
    last = {job.now, severity};
  }
  FindEach(job, code, severity, detail);
}

void Verifier::Lane::FindEach(Job& job, std::string_view code, Severity severity, const std::string& detail) {
  if (shared_.findings) shared_.findings(code, severity, SubjectOf(job.in.caller->identity), detail);
}

// One signature check of the agent's allowance: full after a second of rest.
bool Verifier::Lane::Spend(Job& job) {
  Agent& agent = *job.agent;
  const double rate = shared_.options.checks_per_second;
  agent.tokens = std::min(rate, agent.tokens + rate * absl::ToDoubleSeconds(job.now - agent.tokens_at));
  agent.tokens_at = job.now;
  if (agent.tokens >= 1) {
    agent.tokens -= 1;
    return true;
  }
  if (AlreadyTold(job)) return false;
  Refused r;
  r.code = "RATE_LIMIT";
  r.detail = absl::StrCat("more than ", rate, " batches a second: let batches grow (batch_interval_ms)");
  r.retry_ms = 100 + static_cast<uint32_t>(1000.0 / rate);
  r.epoch = job.header().epoch;
  r.batch_seq = job.header().batch_seq;
  return Refuse(job, std::move(r));
}

}  // namespace orgtrail
