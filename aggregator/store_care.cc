#include "aggregator/store_care.h"

#include <utility>

#include "aggregator/control_leaves.h"
#include "aggregator/gauges.h"
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
  options.gone = [this](const Uuid& uuid) {
    const std::optional<AgentIdentityRecord> agent = p_.registry.Agent(uuid);
    return !agent || agent->revoked || agent->retired;
  };
  refill_ = std::make_unique<Refill>(
      options, p_.ledger, p_.missing, p_.fs, p_.clock, [this](const Refilled& done) { Tell(done); },
      [this](uint64_t leaf, std::function<void()> done) { p_.history.ReadAgain(leaf, std::move(done)); });
  refill_worker_ = std::make_unique<Worker>("refill", *refill_, p_.clock);
  ExportRefill(p_.metrics, p_.missing);
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
  if (logged.ok()) logged = ControlLeaves(p_.config, p_.committer, p_.fs, p_.clock).LogRepairs(p_.own_uri, p_.alarms);
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
  ExportScrub(p_.metrics, *scrubber_);
}

}  // namespace orgtrail
