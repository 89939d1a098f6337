#include "aggregator/aggregator.h"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "aggregator/admin/office.h"
#include "aggregator/admin/service.h"
#include "aggregator/alarms/alarms.h"
#include "aggregator/alarms/notifier.h"
#include "aggregator/alarms/watch.h"
#include "aggregator/control_leaves.h"
#include "aggregator/door.h"
#include "aggregator/enrol/desk.h"
#include "aggregator/enrol/server_renewal.h"
#include "aggregator/enrol/service.h"
#include "aggregator/feed/service.h"
#include "aggregator/gauges.h"
#include "aggregator/index/history.h"
#include "aggregator/ingest/service.h"
#include "aggregator/ingest/session.h"
#include "aggregator/keys.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/pruner.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/own/own_agent.h"
#include "aggregator/query/lookup.h"
#include "aggregator/query/read_log.h"
#include "aggregator/query/service.h"
#include "aggregator/store_care.h"
#include "aggregator/transparency/service.h"
#include "aggregator/verify/verifier.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/thread_cpu.h"
#include "common/base/worker.h"
#include "common/crypto/digest.h"
#include "common/format/control.h"
#include "common/format/recovery.h"
#include "common/http/observability.h"
#include "common/metrics/metrics.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

constexpr size_t kCommitterInbox = 4096;          // batches; their bytes are bounded by the verifier's inflated_bytes
constexpr absl::Duration kLogLimit = absl::Seconds(10);
constexpr absl::Duration kShutdown = absl::Seconds(5);

// Everybody who wants to know of a commit, in the order they must: the verifier's memory first, answers last.
class Fanout final : public Commits {
 public:
  void Committed(const Flush& flush) override {
    if (verifier != nullptr) verifier->Committed(flush);
    if (own != nullptr) own->Committed(flush);
    if (sessions != nullptr) sessions->Committed(flush);
    if (Worker* follower = history.load()) follower->Poke();
  }
  void Held(bool held) override {
    if (own != nullptr) own->Held(held);
    if (sessions != nullptr) sessions->Held(held);
  }
  Verifier* verifier = nullptr;
  OwnAgent* own = nullptr;
  Sessions* sessions = nullptr;
  std::atomic<Worker*> history{nullptr};
};

// What people read and do, as records of the own agent. Returns when they are logged: not ok, the read or act is refused.
class OwnRecords final : public ReadJournal {
 public:
  OwnRecords(OwnAgent& own, const Clock& clock) : own_(own), clock_(clock) {}
  absl::Status Record(const Peer& who, std::string_view name, std::string details) override {
    OwnRecord record;
    record.source_ip = std::string_view(who.address).substr(0, who.address.rfind(':'));
    record.read_only = true;
    return Log(who.identity, name, std::move(details), record);
  }
  absl::Status RecordAct(const Identity& who, std::string_view name, std::string details, std::string_view error_code) {
    OwnRecord record;
    record.error_code = error_code;
    return Log(who, name, std::move(details), record);
  }

 private:
  absl::Status Log(const Identity& who, std::string_view name, std::string details, OwnRecord record) {
    const std::string uri = who.ToUri();
    record.name = name;
    record.time = clock_.Wall();
    record.account = own_.identity().account;
    record.region = own_.identity().region;
    record.who = uri;
    record.details = std::move(details);
    return own_.Record(std::move(record)).status();
  }

  OwnAgent& own_;
  const Clock& clock_;
};

}  // namespace

struct Aggregator::Impl {
  Impl(const AggregatorConfig& c, AggregatorKeys k, Fs& f, const Clock& t, Rng& r) : config(c), keys(std::move(k)), fs(f), clock(t), rng(r) {}
  const AggregatorConfig config;
  const AggregatorKeys keys;
  Fs& fs;
  const Clock& clock;
  Rng& rng;
  Metrics metrics;
  Fanout fanout;
  Registry registry;

  std::unique_ptr<DirLock> lock;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Committer> committer;
  std::unique_ptr<Worker> committer_worker;
  std::unique_ptr<OwnAgent> own;
  std::unique_ptr<Worker> own_worker;
  std::unique_ptr<Alarms> alarms;
  std::unique_ptr<Notifier> notifier;
  MissingBodies missing;
  std::unique_ptr<History> history;
  std::unique_ptr<Pruner> pruner;
  std::vector<std::unique_ptr<Worker>> followers;   // history first
  std::unique_ptr<StoreCare> care;

  std::unique_ptr<IngestService> ingest;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<Worker> sessions_worker;
  std::unique_ptr<Verifier> verifier;

  std::unique_ptr<Watch> watch;
  std::unique_ptr<Worker> watch_worker;
  std::unique_ptr<OwnRecords> records;
  std::unique_ptr<ReadLog> reads;
  std::unique_ptr<Worker> reads_worker;
  std::unique_ptr<Completeness> completeness;
  std::unique_ptr<Lookup> lookup;
  std::unique_ptr<QueryService> query;
  std::unique_ptr<FeedService> feed;
  std::unique_ptr<Transparency> proofs;
  std::unique_ptr<TransparencyService> transparency;
  std::unique_ptr<Office> office;
  std::unique_ptr<AdminService> admin;
  std::unique_ptr<EnrolDesk> desk;
  std::unique_ptr<ServerRenewal> renewal;
  std::unique_ptr<Worker> renewal_worker;
  std::unique_ptr<EnrolServer> enrol_server;
  std::unique_ptr<Door> door;
  std::unique_ptr<Observability> observability;

  absl::Status OpenStores();
  absl::Status StartPath(const std::string& config_text);
  Identity OwnIdentity() const;
  absl::Status StartOwn();
  absl::Status StartFollowers();
  void StartWatch();
  void StartReaders();
  void StartOffices();
  absl::Status OpenDoors();
  void Stop();

  std::string Path(std::string_view name) const { return JoinPath(config.state_dir, name); }
  std::unique_ptr<Worker> Run(std::string name, Stage& stage) const {
    auto worker = std::make_unique<Worker>(std::move(name), stage, clock);
    worker->Start();
    return worker;
  }
  IdentityLog Log() { return LogThrough(*committer, registry, kLogLimit); }
  std::vector<FollowerFacts> Followers() const { return {{"history", history->indexed_to()}}; }
  HealthReport Health() const;
};

absl::Status Aggregator::Impl::OpenStores() {
  RETURN_IF_ERROR(fs.MakeDirs(config.state_dir, 0700));
  ASSIGN_OR_RETURN(lock, DirLock::Take(config.state_dir));
  LedgerOptions options;
  options.dir = Path("ledger");
  options.anchor_dir = Path("anchor");
  options.map_bytes = config.ledger_map_bytes;
  options.shard_bytes = config.ledger_shard_bytes;
  options.shard_period = config.ledger_shard_period;
  options.tail_bytes = config.tail_bytes;
  options.kek = keys.kek;
  Histogram& commits = metrics.GetHistogram("orgtrail_ledger_commit_seconds", "time of one ledger transaction with its fsync; every receipt waits for one",
                                            Metrics::Latency());
  Histogram& fsyncs = metrics.GetHistogram("orgtrail_ledger_fsync_seconds",
                                           "time to write and flush one ledger transaction to the disk; p99 above 0.1: the disk is slow", Metrics::Latency());
  options.on_commit = [&commits, &fsyncs](absl::Duration commit, absl::Duration fsync) {
    commits.Observe(absl::ToDoubleSeconds(commit));
    fsyncs.Observe(absl::ToDoubleSeconds(fsync));
  };
  ASSIGN_OR_RETURN(const std::optional<DeclaredRecovery> declared, DeclaredRecovery::Read(config, keys.policy.first, fs));
  if (declared) options.recovery = declared->recovery;
  ASSIGN_OR_RETURN(ledger, Ledger::Open(options, config.Origin(), &keys.log, fs, clock));
  if (declared) RETURN_IF_ERROR(declared->Log(config, *ledger, fs, clock));
  RETURN_IF_ERROR(registry.Load(*ledger));
  ledger->SetCarries([this](const Uuid& uuid) {
    std::optional<AgentIdentityRecord> agent = registry.Agent(uuid);
    return agent ? agent->carries : std::string();
  });
  committer = std::make_unique<Committer>(*ledger, fanout, kCommitterInbox, clock);
  committer_worker = std::make_unique<Worker>("committer", *committer, clock);
  committer->Poked([this] { committer_worker->Poke(); });
  alarms = std::make_unique<Alarms>(config.management_account, config.region, Path("derived/alarms.json"), fs, clock, rng, metrics);
  RETURN_IF_ERROR(fs.MakeDirs(Path("derived"), 0700));
  if (absl::Status loaded = alarms->Load(); !loaded.ok()) LogWarn("the list of alarms starts empty", {{"why", Describe(loaded)}});
  notifier = std::make_unique<Notifier>(config.alarm_webhook, config.alarm_exec, metrics);
  return absl::OkStatus();
}

absl::Status Aggregator::Impl::StartPath(const std::string& config_text) {
  const Findings findings = [this](std::string_view code, Severity severity, std::string_view subject, std::string_view detail) {
    alarms->Raise(code, severity, subject, detail, AlarmKind::kEvent);
  };
  OwnAgentOptions own_options;
  own_options.org = config.org;
  own_options.account = config.management_account;
  own_options.region = config.region;
  own_options.origin = config.Origin();
  own_options.dir = Path("own");
  own_options.journal_when_full = config.reads_allow;
  own_options.heartbeat_interval = config.heartbeat_interval;
  own_options.config = Sha256(config_text);
  ASSIGN_OR_RETURN(own, OwnAgent::Open(own_options, *ledger, *committer, fs, clock, rng));
  own_worker = std::make_unique<Worker>("own", *own, clock);
  own->Poked([this] { own_worker->Poke(); });
  alarms->Wire([this](OwnRecord record) { own->Post(std::move(record)); }, [this](const AlarmState& a) { notifier->Notify(a); });

  ingest = std::make_unique<IngestService>();
  SessionOptions session_options;
  session_options.log_vkey = keys.log_vkey;
  session_options.least_interval_ms = static_cast<uint32_t>(config.batch_interval_ms);
  session_options.heartbeat_s = static_cast<uint32_t>(absl::ToInt64Seconds(config.heartbeat_interval));
  session_options.policy = [this] { return keys.policy; };
  sessions = std::make_unique<Sessions>(session_options, *ledger, registry, *ingest, findings, clock, metrics);
  sessions_worker = std::make_unique<Worker>("receipts", *sessions, clock);
  sessions->Poked([this] { sessions_worker->Poke(); });
  VerifierOptions verifier_options;
  verifier_options.threads = static_cast<int>(config.verify_threads);
  verifier_options.cpu_ns = ThreadCpuNanos;
  verifier_options.missing = &missing;
  verifier = std::make_unique<Verifier>(verifier_options, *ledger, registry, *committer, *sessions, findings, clock, metrics);
  sessions->Attach(*verifier);
  sessions->Attach(missing);
  ingest->Attach(*sessions);
  fanout.verifier = verifier.get();
  fanout.own = own.get();
  fanout.sessions = sessions.get();

  committer_worker->Start();
  verifier->Start();
  sessions_worker->Start();
  notifier->Start();
  return StartOwn();
}

Identity Aggregator::Impl::OwnIdentity() const {
  Identity own_identity;
  own_identity.kind = Identity::Kind::kAgent;
  own_identity.org = config.org;
  own_identity.account = config.management_account;
  own_identity.region = config.region;
  own_identity.name = own->identity().name;
  return own_identity;
}

// The aggregator's own agent is enrolled and verified like any other; what has to be logged at a start goes before its first record.
absl::Status Aggregator::Impl::StartOwn() {
  auto caller = std::make_shared<Caller>();
  caller->identity = OwnIdentity();
  caller->address = "own";
  const Uuid uuid = own->identity().uuid;
  const std::string uri = caller->identity.ToUri();
  if (!registry.Agent(uuid)) {
    IdentityLeaf leaf;
    leaf.act = IdentityLeaf::Act::kEnrolled;
    leaf.wall_ns = static_cast<uint64_t>(clock.WallNanos());
    leaf.uuid = uuid;
    leaf.uri = uri;
    leaf.identity_key = std::string(View(own->identity_key()));
    leaf.approver = uri;
    leaf.reason = "the aggregator's built-in agent";
    RETURN_IF_ERROR(Log()(leaf).status());
  }
  RETURN_IF_ERROR(own->Start([this, caller, uuid](std::string frame) -> absl::Status {
    Submission submission{0, caller, uuid, std::move(frame)};
    return verifier->TryEnter(submission) ? absl::OkStatus() : absl::ResourceExhaustedError("verify is full");
  }));
  own_worker->Start();
  ControlLeaves leaves(config, *committer, fs, clock);
  RETURN_IF_ERROR(leaves.LogRepairs(uri, *alarms));
  if (keys.policy.first.empty()) return absl::OkStatus();
  return leaves.LogPolicy(keys.policy.first, keys.policy.second);
}

absl::Status Aggregator::Impl::StartFollowers() {
  HistoryOptions history_options;
  history_options.dir = Path("derived/history");
  history_options.keep = config.history_keep;
  history_options.tell_reuse = [this](std::string_view subject, std::string_view detail) {
    alarms->Raise("EVENTID_REUSE", Severity::kWarn, subject, detail, AlarmKind::kEvent);
  };
  ASSIGN_OR_RETURN(history, History::Open(history_options, *ledger, fs, clock, metrics));
  followers.push_back(Run("history", *history));
  fanout.history.store(followers.back().get());
  followers.push_back(Run("merge", history->merger()));
  if (config.ledger_repack) followers.push_back(Run("repack", *ledger->Background()));

  PrunerOptions pruner_options;
  pruner_options.keep = config.ledger_retention;
  pruner_options.order_file = Path("retention.note");
  pruner_options.own = own->identity().uuid;
  pruner_options.tell = [this](std::string_view code, bool refused, std::string_view what) {
    alarms->Raise(code, refused ? Severity::kPage : Severity::kWarn, "retention", what, AlarmKind::kEvent);
  };
  pruner = std::make_unique<Pruner>(pruner_options, *ledger, *committer, fs, clock);
  RETURN_IF_ERROR(pruner->Load());
  followers.push_back(Run("prune", *pruner));
  care = std::make_unique<StoreCare>(StoreCare::Parts{config, own->identity().uuid, OwnIdentity().ToUri(), *ledger, missing, *history, registry, *alarms,
                                                      *committer, fs, clock, metrics});
  care->Start();
  return absl::OkStatus();
}

void Aggregator::Impl::StartWatch() {
  WatchOptions options;
  options.heartbeat_interval = config.heartbeat_interval;
  options.state_dir = config.state_dir;
  options.own = own->identity().uuid;
  options.accounts = config.accounts;
  options.coverage_grace = config.coverage_grace;
  options.ledger_full = [this] { return committer->held_why(); };
  watch = std::make_unique<Watch>(
      options, *ledger, registry, *alarms, [log = Log()](const IdentityLeaf& leaf) { return log(leaf).status(); },
      [this] { return ledger->stats().used_bytes; }, [this] { return Followers(); }, fs, clock, metrics);
  watch_worker = Run("watch", *watch);
}

void Aggregator::Impl::StartReaders() {
  records = std::make_unique<OwnRecords>(*own, clock);
  reads = std::make_unique<ReadLog>(*records, clock, config.reads_allow);
  reads_worker = Run("reads", *reads);
  const auto live = [this](const AgentHead& head) {
    std::optional<AgentIdentityRecord> agent = registry.Agent(head.uuid);
    return agent && watch->LifeOf(*agent, head) == AgentLife::kLive;
  };
  completeness = std::make_unique<Completeness>(*ledger, registry, *history, live, clock);
  lookup = std::make_unique<Lookup>(*history, *ledger, *completeness, keys.mac);
  query = std::make_unique<QueryService>(*lookup, *records, metrics, AdmittedPeers(registry));
  feed = std::make_unique<FeedService>(FeedOptions{}, *ledger, *history, registry, *completeness, *records, keys.mac, clock, metrics,
                                       AdmittedPeers(registry));
  proofs = std::make_unique<Transparency>(*ledger, registry, *lookup, *completeness, keys.log_vkey);
  transparency = std::make_unique<TransparencyService>(*proofs, *records, *reads, metrics, AdmittedPeers(registry));
}

void Aggregator::Impl::StartOffices() {
  const absl::StatusOr<GovernanceKeys> governance = GovernanceKeys::OfPolicy(keys.policy.first);
  std::vector<std::string> regions = config.regions;
  regions.push_back(config.region);
  office = std::make_unique<Office>(OfficeParts{
      .authority = keys.authority,
      .ledger = *ledger,
      .registry = registry,
      .log = Log(),
      .sessions = *sessions,
      .alarms = *alarms,
      .watch = *watch,
      .followers = [this] { return Followers(); },
      .subscriptions = [this] { return static_cast<uint32_t>(feed->subscriptions()); },
      .accounts = config.accounts,
      .regions = std::move(regions),
      .record = [this](const Identity& who, std::string_view name, std::string details, std::string_view error_code) {
        return records->RecordAct(who, name, std::move(details), error_code);
      },
      .own = own->identity().uuid,
      .demo = governance.ok() && governance->admins.size() == 1,
      .clock = clock,
      .rng = rng,
      .retention = [this] { return pruner->facts(); }});
  admin = std::make_unique<AdminService>(*office, registry, *reads);

  EnrolOptions enrol_options;
  enrol_options.origin = config.Origin();
  enrol_options.log_vkey = keys.log_vkey;
  enrol_options.certificate_life = config.certificate_life;
  enrol_options.said_goodbye = [this](const Uuid& uuid) {
    const std::optional<AgentHead> head = ledger->HeadOf(uuid);
    return head && head->retired;
  };
  desk = std::make_unique<EnrolDesk>(
      enrol_options, keys.authority, registry, Log(),
      [this](std::string_view code, std::string_view subject, std::string_view detail) {
        alarms->Raise(code, Severity::kWarn, subject, detail, AlarmKind::kEvent);
      },
      [this] { return keys.policy; }, clock, rng);

  renewal = std::make_unique<ServerRenewal>(
      config.tls_certificate, config.tls_key, keys.authority,
      [this](bool page, std::string_view subject, std::string_view detail) {
        if (detail.empty()) return alarms->Clear("CERTIFICATE_EXPIRING", subject);
        alarms->Raise("CERTIFICATE_EXPIRING", page ? Severity::kPage : Severity::kWarn, subject, detail);
      },
      fs, clock);
  renewal->Step(clock.Now());   // the doors open with a certificate that holds
  renewal_worker = Run("renewal", *renewal);
}

absl::Status Aggregator::Impl::OpenDoors() {
  ExportLedger(metrics, *ledger, *committer);
  ExportCertificates(metrics, *renewal);
  ExportProcess(metrics, "orgtrail-aggregator");
  ASSIGN_OR_RETURN(door, Door::Open(config, {ingest->service(), query.get(), feed.get(), transparency.get(), admin->service()}, clock, metrics));
  const TlsFiles files{config.tls_certificate, config.tls_key, config.ca_certificate};
  ASSIGN_OR_RETURN(enrol_server, EnrolServer::Start(config.enrol_listen, files, *desk, nullptr));
  if (!config.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(observability, Observability::Start(config.metrics_listen, "orgtrail-aggregator", metrics, [this] { return Health(); }));
  }
  return absl::OkStatus();
}

HealthReport Aggregator::Impl::Health() const {
  HealthReport report;
  const bool held = committer->held();
  report.checks.push_back({"ledger", !held, held ? "cannot write, agents keep their records: " + committer->held_why() : "writes", false});
  const uint64_t size = ledger->head().size, indexed = history->indexed_to();
  const bool behind = size > indexed + 10'000;
  report.checks.push_back({"history", !behind, std::to_string(size - std::min(size, indexed)) + " leaves behind", false});
  return report;
}

void Aggregator::Impl::Stop() {
  observability.reset();
  if (feed) feed->Drain();
  if (enrol_server) enrol_server->Stop();
  if (sessions) sessions->Shutdown();
  if (door) door->Close(kShutdown);
  if (care) care->Stop();
  if (watch_worker) watch_worker->Stop();
  if (renewal_worker) renewal_worker->Stop();
  if (reads_worker) reads_worker->Stop();
  if (reads) reads->Finish();
  if (own) {
    if (absl::Status closed = own->Close(); !closed.ok()) LogWarn("the own agent did not close cleanly", {{"why", Describe(closed)}});
  }
  if (own_worker) own_worker->Stop();
  if (verifier) verifier->Stop();
  if (sessions_worker) sessions_worker->Stop();
  if (committer_worker) committer_worker->Stop();
  if (ledger) ledger->Wake();
  fanout.history.store(nullptr);
  for (const auto& follower : followers) follower->Stop();
  care.reset();
  if (history) {
    if (absl::Status flushed = history->Flush(); !flushed.ok()) LogWarn("the newest history is rebuilt at the next start", {{"why", Describe(flushed)}});
  }
  if (notifier) notifier->Stop();
  if (alarms) {
    if (absl::Status saved = alarms->Save(); !saved.ok()) LogWarn("the list of alarms was not saved", {{"why", Describe(saved)}});
  }
  door.reset();
  enrol_server.reset();
}

Aggregator::Aggregator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Aggregator::~Aggregator() { impl_->Stop(); }

absl::StatusOr<std::unique_ptr<Aggregator>> Aggregator::Start(const AggregatorConfig& config, const std::string& config_text, Fs& fs,
                                                              const Clock& clock, Rng& rng) {
  ASSIGN_OR_RETURN(AggregatorKeys keys, AggregatorKeys::Read(config, fs));
  std::unique_ptr<Aggregator> a(new Aggregator(std::make_unique<Impl>(config, std::move(keys), fs, clock, rng)));
  Impl& impl = *a->impl_;
  RETURN_IF_ERROR(impl.OpenStores());
  RETURN_IF_ERROR(impl.StartPath(config_text));
  RETURN_IF_ERROR(impl.StartFollowers());
  impl.StartWatch();
  impl.StartReaders();
  impl.StartOffices();
  RETURN_IF_ERROR(impl.OpenDoors());
  const SignedHead head = impl.ledger->head();
  LogInfo("aggregator is up", {{"origin", config.Origin()}, {"listen", config.listen}, {"enrol", config.enrol_listen},
                               {"metrics", config.metrics_listen}, {"leaves", std::to_string(head.size)}, {"records", std::to_string(head.events)}});
  return a;
}

}  // namespace orgtrail
