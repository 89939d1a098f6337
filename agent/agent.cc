#include "agent/agent.h"

#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "agent/capture/file_tail.h"
#include "agent/capture/http_source.h"
#include "agent/enrol/enrolment.h"
#include "agent/record/pipeline.h"
#include "agent/rejoin.h"
#include "agent/spool/spool.h"
#include "agent/uplink/uplink.h"
#include "common/base/inbox.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/worker.h"
#include "common/crypto/digest.h"
#include "common/http/observability.h"
#include "common/metrics/metrics.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kReaderLook = absl::Seconds(10);
constexpr uint64_t kPinnedTxns = 64;   // commits: far more than there are while a read of ours lasts
constexpr absl::Duration kCare = absl::Seconds(1);            // how often enrolment and spool are looked after
constexpr absl::Duration kRenewRetry = absl::Minutes(1);

struct Report {
  std::string code, detail;
};

absl::StatusOr<uint32_t> UidOf(const std::string& user) {
  if (std::optional<uint64_t> uid = ParseUint(user); uid && *uid <= UINT32_MAX) return static_cast<uint32_t>(*uid);
  const passwd* entry = getpwnam(user.c_str());
  if (entry == nullptr) return absl::InvalidArgumentError(absl::StrCat("http.allow_users: there is no user ", user, " on this machine"));
  return entry->pw_uid;
}

absl::StatusOr<Hash> HashOfFile(Fs& fs, std::string_view path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  Sha256Stream hash;
  std::string piece(64 << 10, '\0');
  for (uint64_t at = 0;;) {
    ASSIGN_OR_RETURN(const size_t n, file->ReadAt(at, piece.data(), piece.size()));
    hash.Update(std::string_view(piece).substr(0, n));
    at += n;
    if (n < piece.size()) return hash.Finish();
  }
}

// Keys in memory stay there: no core dumps, no ptrace by other processes of the same user.
void ProtectMemory() {
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) LogWarn("core dumps cannot be switched off");
  if (prctl(PR_SET_DUMPABLE, 0) != 0) LogWarn("the process cannot be made undumpable");
}

}  // namespace

struct Agent::Impl {
  AgentConfig config;
  const Clock* clock = nullptr;
  Metrics metrics;
  std::unique_ptr<DirLock> lock;
  std::unique_ptr<Enrolment> enrolment;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<Pipeline> pipeline;
  std::unique_ptr<Worker> pipeline_worker;
  std::unique_ptr<Uplink> uplink;
  std::unique_ptr<Rejoin> rejoin;                             // the care thread's
  std::vector<std::unique_ptr<Source>> sources;
  std::unique_ptr<Observability> observability;
  Inbox<Report> reports{64};
  Guarded<bool> stopping{false};
  std::atomic<bool> broken{false};
  std::atomic<bool> clock_wrong{false};                       // by the agent's own certificate
  Guarded<std::string> ended;                                 // why nobody takes what this identity records; empty: somebody does
  bool goodbye_said = false;                                  // by an earlier `retire`: what is left is sent, nothing is sealed
  Tick look_at_readers{};                                     // of the spool's file; the care thread's, like the next
  int pinned_looks = 0;
  std::thread care;

  absl::Status Enrol(Fs& fs);
  absl::Status StartPath(const std::string& config_text, Fs& fs, Rng& rng);
  absl::Status StartSources(Fs& fs);
  void Care();
  void Handle(const Report& report);
  void Ended(const std::string& detail);
  void WatchReaders();
  bool Drain(bool retire, absl::Duration limit);
  void ExportSpool();
  HealthReport Health() const;
};

absl::Status Agent::Impl::Enrol(Fs& fs) {
  if (enrolment->enrolled()) {
    const EnrolledAs& as = *enrolment->enrolled();
    if (as.account != config.account || as.region != config.region || as.name != config.name) {
      return absl::FailedPreconditionError(absl::StrCat(
          config.state_dir, " belongs to ", as.Uri(), ", but the configuration says ", config.account, "/", config.region, "/", config.name,
          ": an identity does not move. Restore account, region and name, or give another state_dir and a new join token"));
    }
    if (enrolment->RenewAt() > clock->Wall() || config.enrol_endpoint.empty()) return absl::OkStatus();
    if (absl::Status renewed = enrolment->Renew(config.enrol_endpoint); !renewed.ok()) {
      if (absl::IsPermissionDenied(renewed)) return renewed;
      LogWarn("the certificate could not be renewed yet", {{"why", std::string(renewed.message())}});
    }
    return absl::OkStatus();
  }
  if (config.enrol_endpoint.empty() || config.token_file.empty()) {
    return absl::FailedPreconditionError(
        "this agent is not enrolled yet: set enrol: {endpoint: HOST:7444, token_file: FILE} with a token from `orgtrail agent token`");
  }
  absl::StatusOr<std::string> token = ReadFile(fs, config.token_file, 4096);
  if (!token.ok()) return Annotate(token.status(), "enrol.token_file");
  while (!token->empty() && (token->back() == '\n' || token->back() == ' ' || token->back() == '\r')) token->pop_back();
  RETURN_IF_ERROR(enrolment->Enrol(config.enrol_endpoint, *token, config.account, config.region, config.name, ORGTRAIL_VERSION));
  LogInfo("enrolled", {{"as", enrolment->enrolled()->Uri()}, {"uuid", enrolment->enrolled()->uuid.ToString()}});
  return absl::OkStatus();
}

absl::Status Agent::Impl::StartPath(const std::string& config_text, Fs& fs, Rng& rng) {
  const EnrolledAs& as = *enrolment->enrolled();
  SpoolOptions spool_options;
  spool_options.max_bytes = config.spool_max_bytes;
  spool_options.min_free = config.spool_min_free;
  ASSIGN_OR_RETURN(spool, Spool::Open(JoinPath(config.state_dir, "spool"), spool_options, fs, *clock));
  spool->OnFsync([&seconds = metrics.GetHistogram("orgtrail_agent_spool_fsync_seconds",
                                                  "time to write and flush one spool transaction to the disk; slow: the disk is", Metrics::Latency())](
                     absl::Duration took) { seconds.Observe(absl::ToDoubleSeconds(took)); });
  goodbye_said = spool->tail().retired;
  if (goodbye_said && !config.retiring) {
    const uint64_t unsent = spool->Facts().unacked_batches;
    return absl::FailedPreconditionError(absl::StrCat(
        config.state_dir, " was retired: its identity has ended and no aggregator takes what it records. ",
        unsent == 0 ? "" : absl::StrCat(unsent, " batches are not acknowledged: run `orgtrail-agent retire` again to send them. "),
        "To record here again, enrol anew: an empty state_dir and a new join token"));
  }
  PipelineOptions options;
  options.batch_interval = absl::Milliseconds(config.batch_interval_ms);
  options.origin = as.origin;
  options.config = Sha256(config_text);
  if (absl::StatusOr<Hash> self = HashOfFile(fs, "/proc/self/exe"); self.ok()) options.executable = *self;
  AgentIdentity identity{as.uuid, as.org, as.account, as.region, as.name};
  pipeline = std::make_unique<Pipeline>(identity, enrolment->identity_key(), *spool, options, *clock, rng, metrics);
  pipeline_worker = std::make_unique<Worker>("seal", *pipeline, *clock);
  pipeline->Poked([this] { pipeline_worker->Poke(); });
  if (!goodbye_said) RETURN_IF_ERROR(pipeline->Open());

  UplinkOptions uplink_options;
  uplink_options.endpoints = config.aggregators;
  const TlsFiles files = enrolment->tls_files();
  uplink_options.cert = files.cert;
  uplink_options.key = files.key;
  uplink_options.ca = files.ca;
  uplink_options.session.uuid = as.uuid;
  uplink_options.session.version = ORGTRAIL_VERSION;
  uplink_options.session.run = std::string(Uuid::Random(rng).view());
  uplink_options.session.accept_restored_log = config.accept_restored_log;
  UplinkReports uplink_reports;
  uplink_reports.pace = [this](uint32_t batch_ms, uint32_t heartbeat_s) {
    pipeline->SetIntervals(absl::Milliseconds(std::max<int64_t>(batch_ms, batch_ms == 0 ? 0 : config.batch_interval_ms)), absl::Seconds(heartbeat_s));
  };
  uplink_reports.report = [this](std::string_view code, std::string_view detail) {
    if (!reports.TryPush({std::string(code), std::string(detail)})) LogWarn("too many reports from the uplink", {{"code", std::string(code)}});
  };
  uplink_reports.bodies_lost = [this](const BatchHeader& h) {
    if (goodbye_said) return;
    pipeline->Note("Loss", "{\"cause\":\"decode\",\"count\":" + std::to_string(h.n_events) + ",\"epoch\":" + std::to_string(h.epoch) +
                               ",\"batch\":" + std::to_string(h.batch_seq) + ",\"firstSequence\":" + std::to_string(h.first_seq) +
                               ",\"lastSequence\":" + std::to_string(h.last_seq) +
                               ",\"source\":\"spool\",\"detail\":\"the disk damaged the bodies of this batch before it was sent\"}",
                   EventClass::kLoss);
  };
  uplink = std::make_unique<Uplink>(uplink_options, as.log_key, *spool, *clock, rng, metrics, std::move(uplink_reports));
  rejoin = std::make_unique<Rejoin>(*spool, *pipeline, uplink->session(), [this] { return stopping.Peek([](bool s) { return s; }); });
  if (!goodbye_said) pipeline_worker->Start();
  uplink->Start();
  return absl::OkStatus();
}

absl::Status Agent::Impl::StartSources(Fs& fs) {
  for (const FileSourceConfig& f : config.files) {
    FileTailOptions options;
    options.path = f.path;
    options.from_end = f.from_end;
    sources.push_back(std::make_unique<FileTail>(options, *pipeline, fs, *clock));
  }
  for (const HttpSourceConfig& h : config.https) {
    HttpSourceOptions options;
    options.listen = h.listen;
    options.account = config.account;
    options.region = config.region;
    if (!h.token_file.empty()) {
      ASSIGN_OR_RETURN(options.token, ReadFile(fs, h.token_file, 4096));
      options.token_name = std::string(BaseName(h.token_file));
    }
    for (const std::string& user : h.allow_users) {
      ASSIGN_OR_RETURN(uint32_t uid, UidOf(user));
      options.allowed_uids.push_back(uid);
    }
    ASSIGN_OR_RETURN(std::unique_ptr<HttpSource> source, HttpSource::Make(std::move(options), *pipeline, *clock));
    sources.push_back(std::move(source));
  }
  for (auto& source : sources) RETURN_IF_ERROR(source->Start());
  return absl::OkStatus();
}

void Agent::Impl::Handle(const Report& report) {
  LogWarn("the aggregator reports", {{"code", report.code}, {"detail", report.detail}});
  if (report.code == "EQUIVOCATION" || report.code == "EPOCH_CONFLICT" || report.code == "EPOCH_STALE" ||
      report.code == "MONO_ROLLBACK" || report.code == "QUARANTINED") {
    LogError("this identity's chain conflicts with what the log holds: the state directory was probably restored from a copy, or another "
             "agent runs with it. What is captured is logged, in quarantine and out of the feed, until this agent is revoked "
             "(orgtrail agents revoke) and enrolled anew with an empty state_dir and a new join token", {{"code", report.code}});
    return;
  }
  if (report.code == "AUTH_REVOKED") return Ended(report.detail);
  if (report.code == "ORIGIN_MISMATCH") {
    if (absl::Status opened = goodbye_said ? absl::OkStatus() : pipeline->NewEpoch(EpochReason::kHandover).status(); !opened.ok()) {
      LogError("a new epoch could not be opened", {{"why", Describe(opened)}});
    }
  }
  if (!goodbye_said) rejoin->Report(report.code, report.detail);
}

// Revoked, or retired elsewhere: for ever. Nothing more is captured, because nobody would ever take it: callers are told so, files
// keep what they hold for the next identity.
void Agent::Impl::Ended(const std::string& detail) {
  const bool fresh = ended.With([&](std::string& e) {
    const bool first = e.empty();
    e = detail;
    return first;
  });
  if (!fresh) return;
  const std::string words = "this agent records nothing any more: " + detail;
  pipeline->Refuse(words);
  if (!config.retiring) LogError(words + ". HTTP callers are refused, file sources wait; what is in the spool stays there");
}

// Somebody reads the spool's file and does not let go. Our own reads end within milliseconds.
void Agent::Impl::WatchReaders() {
  const Tick now = clock->Now();
  if (now < look_at_readers) return;
  look_at_readers = now + kReaderLook;
  const uint64_t behind = spool->OldestReaderTxns();
  pinned_looks = behind < kPinnedTxns ? 0 : pinned_looks + 1;
  if (pinned_looks != 2) return;
  LogWarn("a process reads the spool's file and does not let go: pages that are freed cannot be used again, so the file grows, up to its map. `lsof` on data.mdb names it",
          {{"dir", spool->dir()}, {"commits_behind", std::to_string(behind)}});
  pipeline->Note("SPOOL_PINNED", "{\"commitsBehind\":" + std::to_string(behind) + ",\"usedBytes\":" + std::to_string(spool->Facts().used_bytes) + "}",
                 EventClass::kOwn, "spool-pinned");
}

void Agent::Impl::Care() {
  NameThread("care");
  absl::Time retry = absl::InfinitePast();
  for (;;) {
    const bool stop = stopping.WhenFor(kCare, [](bool s) { return s; }, [](bool s, bool) { return s; });
    if (stop) return;
    for (const Report& report : reports.TakeAll(absl::ZeroDuration())) Handle(report);
    rejoin->Step();
    if (absl::Status alive = spool->CheckAlive(); !alive.ok() && !broken.exchange(true)) {
      LogError("the spool cannot be used any more; the agent stops, and opens a new epoch when started again", {{"why", Describe(alive)}});
    }
    WatchReaders();
    const absl::Time now = clock->Wall();
    if (const bool early = now < enrolment->valid_from(); early != clock_wrong.exchange(early) && early) {
      LogWarn("this machine's clock is wrong: its certificate counts only from a later time, and no aggregator's will count either. Set the clock",
              {{"now", Rfc3339(now)}, {"valid_from", Rfc3339(enrolment->valid_from())}});
    }
    if (config.enrol_endpoint.empty() || now < enrolment->RenewAt() || now < retry) continue;
    absl::Status renewed = enrolment->Renew(config.enrol_endpoint);
    if (renewed.ok()) {
      LogInfo("certificate renewed");
      uplink->Renewed();
    } else if (absl::IsPermissionDenied(renewed) && absl::StrContains(renewed.message(), "AUTH_REVOKED")) {
      retry = now + kRenewRetry;
      Ended(std::string(renewed.message()));
    } else {
      retry = now + kRenewRetry;
      LogWarn("the certificate could not be renewed yet", {{"why", std::string(renewed.message())}});
    }
  }
}

void Agent::Impl::ExportSpool() {
  Gauge& unacked = metrics.GetGauge("orgtrail_agent_spool_unacked_batches", "batches in the spool without a verified receipt");
  Gauge& bytes = metrics.GetGauge("orgtrail_agent_spool_unacked_bytes", "bytes of those batches");
  Gauge& used = metrics.GetGauge("orgtrail_agent_spool_used_bytes", "bytes the spool's pages use, acknowledged batches included");
  Gauge& most = metrics.GetGauge("orgtrail_agent_spool_max_bytes", "most the spool may use; beyond it sources are refused");
  Gauge& age = metrics.GetGauge("orgtrail_agent_spool_oldest_seconds", "age of the oldest batch without a receipt; 0: none");
  Gauge& readers = metrics.GetGauge("orgtrail_agent_spool_oldest_reader_txns", "commits the oldest open read of the spool's file is behind; growing: somebody does not let go");
  metrics.OnCollect([this, &unacked, &bytes, &used, &most, &age, &readers] {
    readers.Set(static_cast<double>(spool->OldestReaderTxns()));
    const SpoolFacts facts = spool->Facts();
    unacked.Set(static_cast<double>(facts.unacked_batches));
    bytes.Set(static_cast<double>(facts.unacked_bytes));
    used.Set(static_cast<double>(facts.used_bytes));
    most.Set(static_cast<double>(facts.max_bytes));
    age.Set(facts.oldest_unacked == absl::InfiniteFuture() ? 0 : std::max(0.0, absl::ToDoubleSeconds(clock->Wall() - facts.oldest_unacked)));
  });
  ExportProcess(metrics, "orgtrail-agent");
}

HealthReport Agent::Impl::Health() const {
  HealthReport report;
  const std::string why = ended.Peek([](const std::string& e) { return e; });
  report.checks.push_back({"identity", why.empty(), why.empty() ? "enrolled" : why, false});
  if (clock_wrong.load()) report.checks.push_back({"clock", false, "this machine's clock is before its certificate's time: set it", false});
  report.checks.push_back({"spool", !broken.load(), broken.load() ? "the spool is gone or failed; restart the agent" : "stores", true});
  const bool connected = uplink->state() == UplinkState::kConnected;
  report.checks.push_back({"uplink", connected, connected ? "connected to " + uplink->endpoint() : "not connected: " + uplink->last_error(), false});
  return report;
}

Agent::Agent() : impl_(std::make_unique<Impl>()) {}

Agent::~Agent() { Stop(false, absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(const AgentConfig& config, const std::string& config_text, Fs& fs, const Clock& clock,
                                                    Rng& rng) {
  ProtectMemory();
  std::unique_ptr<Agent> agent(new Agent());
  Impl& impl = *agent->impl_;
  impl.config = config;
  impl.clock = &clock;
  RETURN_IF_ERROR(fs.MakeDirs(config.state_dir, 0700));
  ASSIGN_OR_RETURN(impl.lock, DirLock::Take(config.state_dir));
  ASSIGN_OR_RETURN(impl.enrolment, Enrolment::Open(config.state_dir, fs, clock, rng));
  RETURN_IF_ERROR(impl.Enrol(fs));
  RETURN_IF_ERROR(impl.StartPath(config_text, fs, rng));
  impl.ExportSpool();
  if (!config.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(impl.observability,
                     Observability::Start(config.metrics_listen, "orgtrail-agent", impl.metrics, [&impl] { return impl.Health(); }));
  }
  RETURN_IF_ERROR(impl.StartSources(fs));
  LogInfo("agent is up", {{"as", impl.enrolment->enrolled()->Uri()}, {"log", impl.enrolment->enrolled()->origin},
                          {"sources", std::to_string(impl.sources.size())}});
  impl.care = std::thread([&impl] { impl.Care(); });   // from here on the enrolment is its own: it renews
  return agent;
}

// A log that says "retired" has the goodbye and all before it, although its receipt was lost on the way.
bool Agent::Impl::Drain(bool retire, absl::Duration limit) {
  constexpr absl::Duration kLook = absl::Seconds(1);
  for (absl::Duration left = limit; left > absl::ZeroDuration(); left -= kLook) {
    if (uplink->Drain(std::min(left, kLook))) return true;
    if (!retire) continue;
    for (const Report& report : reports.TakeAll(absl::ZeroDuration())) Handle(report);
    if (ended.Peek([](const std::string& e) { return absl::StrContains(e, "agent was retired"); })) return true;
  }
  return false;
}

void Agent::Reload() { impl_->uplink->Renewed(); }

bool Agent::Broken() const { return impl_->broken.load(); }

bool Agent::Stop(bool retire, absl::Duration drain) {
  Impl& impl = *impl_;
  for (auto& source : impl.sources) source->Stop();
  impl.sources.clear();
  impl.observability.reset();
  impl.stopping.With([](bool& s) { s = true; });
  if (impl.care.joinable()) impl.care.join();
  bool drained = true;
  if (impl.pipeline_worker) {
    impl.pipeline_worker->Stop();
    if (absl::Status closed = impl.goodbye_said ? absl::OkStatus() : impl.pipeline->Close(retire); !closed.ok()) {
      LogWarn("the epoch was not closed; the next one will say unclean", {{"why", Describe(closed)}});
    }
    impl.pipeline_worker.reset();
  }
  if (impl.uplink) {
    if (drain > absl::ZeroDuration()) drained = impl.Drain(retire, drain);
    impl.uplink->Stop();
    impl.uplink.reset();
  }
  return drained;
}

}  // namespace orgtrail
