#include "aggregator/store_care.h"

#include <utility>

#include "aggregator/ledger/repair.h"
#include "common/base/log.h"
#include "common/base/status.h"

namespace orgtrail {

StoreCare::StoreCare(Parts parts) : p_(std::move(parts)) {
  MakeRefill();
  MakeScrub();
}

void StoreCare::Start() {
  refill_worker_->Start();
  if (scrub_worker_) scrub_worker_->Start();
}

void StoreCare::Stop() {
  if (scrub_worker_) scrub_worker_->Stop();   // it tells the other
  refill_worker_->Stop();
}

void StoreCare::MakeRefill() {
  RefillOptions options;
  options.ledger_dir = JoinPath(p_.config.state_dir, "ledger");
  options.kek_file = p_.config.ledger_kek;
  options.marks_dir = JoinPath(p_.config.state_dir, "derived");
  options.own = p_.own;
  options.name = [this](const Uuid& uuid) { return SubjectOf(uuid); };
  refill_ = std::make_unique<Refill>(
      options, p_.ledger, p_.missing, p_.fs, p_.clock, [this](const Refilled& done) { Tell(done); },
      [this](uint64_t leaf, std::function<void()> done) { p_.history.ReadAgain(leaf, std::move(done)); });
  refill_worker_ = std::make_unique<Worker>("refill", *refill_, p_.clock);
  Gauge& wanted = p_.metrics.GetGauge("orgtrail_refill_wanted_batches", "batches that the ledger lost a part of and that agents are asked for");
  Gauge& given_up = p_.metrics.GetGauge("orgtrail_refill_given_up_batches", "of those, what their agents do not have any more or do not answer for: orgtrail repair");
  Gauge& asked = p_.metrics.GetGauge("orgtrail_refill_asked_batches", "batches agents were asked for since the start, repeats included");
  Gauge& back = p_.metrics.GetGauge("orgtrail_refill_returned_batches", "batches that came back from their agents and are in their place, since the start");
  p_.metrics.OnCollect([this, &wanted, &given_up, &asked, &back] {
    const MissingBodies::Facts facts = p_.missing.facts();
    wanted.Set(static_cast<double>(facts.wanted + facts.came));
    given_up.Set(static_cast<double>(facts.given_up));
    asked.Set(static_cast<double>(facts.asked));
    back.Set(static_cast<double>(facts.done));
  });
}

std::string StoreCare::SubjectOf(const Uuid& uuid) const {
  const std::optional<AgentIdentityRecord> agent = p_.registry.Agent(uuid);
  const std::optional<Identity> id = agent ? Identity::Parse(agent->uri) : std::nullopt;
  return id ? id->account + "/" + id->region + "/" + id->name : uuid.ToString();
}

// Leaves are back in their places beneath us.
void StoreCare::Tell(const Refilled& done) {
  if (scrubber_) scrubber_->Replaced(done.file, done.is_whole);
  absl::Status logged = NoteForTheLog(p_.config.state_dir, {done.words}, p_.fs, p_.clock);
  if (logged.ok()) logged = p_.log_repairs();
  if (!logged.ok()) LogWarn("the log does not say yet what was put back; it does at the next start", {{"why", Describe(logged)}});
  if (done.is_whole) p_.alarms.Clear("STORE_DAMAGED", done.file);
  for (const Uuid& agent : done.agents_with_bodies) {
    if (p_.missing.LeftOf(agent) == 0) p_.alarms.Clear("BODIES_MISSING", SubjectOf(agent));
  }
}

void StoreCare::MakeScrub() {
  if (p_.config.scrub_rate == 0) return;
  ScrubOptions options;
  options.ledger_dir = JoinPath(p_.config.state_dir, "ledger");
  options.kek_file = p_.config.ledger_kek;
  options.history_dir = JoinPath(p_.config.state_dir, "derived/history");
  options.state_file = JoinPath(p_.config.state_dir, "derived/scrub");
  options.bytes_per_second = p_.config.scrub_rate;
  options.pause = p_.config.scrub_pause;
  scrubber_ = std::make_unique<Scrubber>(
      options, p_.fs, p_.clock,
      [this](const std::string& file, const std::string& words) { p_.alarms.Raise("STORE_DAMAGED", Severity::kPage, file, words); },
      [this](const std::set<std::string>& files) { p_.alarms.ClearOthers("STORE_DAMAGED", files); },
      [this](const ShardLook& look) { refill_->Looked(look); });
  scrub_worker_ = std::make_unique<Worker>("scrub", *scrubber_, p_.clock);
  Gauge& last = p_.metrics.GetGauge("orgtrail_scrub_last_round_timestamp_seconds", "when all that is kept had been read through; 0: never yet");
  Gauge& last_bytes = p_.metrics.GetGauge("orgtrail_scrub_last_round_bytes", "bytes that round read");
  Gauge& damaged = p_.metrics.GetGauge("orgtrail_scrub_damaged_files", "damaged files found in this round, or in the last one while none is under way");
  Gauge& bytes = p_.metrics.GetGauge("orgtrail_scrub_read_bytes", "bytes read through since the start");
  Gauge& share = p_.metrics.GetGauge("orgtrail_scrub_round_share", "how much of the ledger this round has come through; 0: none is under way");
  p_.metrics.OnCollect([this, &last, &last_bytes, &damaged, &bytes, &share] {
    const ScrubFacts facts = scrubber_->facts();
    last.Set(static_cast<double>(facts.last_round_ns) / 1e9);
    last_bytes.Set(static_cast<double>(facts.last_round_bytes));
    damaged.Set(static_cast<double>(facts.damaged_files));
    bytes.Set(static_cast<double>(facts.bytes));
    share.Set(facts.leaves == 0 ? 0 : static_cast<double>(facts.leaf) / static_cast<double>(facts.leaves));
  });
}

}  // namespace orgtrail
