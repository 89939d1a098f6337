#include "aggregator/aggregator.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <utility>
#include <vector>

#include "aggregator/admin/office.h"
#include "aggregator/admin/service.h"
#include "aggregator/alarms/alarms.h"
#include "aggregator/alarms/notifier.h"
#include "aggregator/alarms/watch.h"
#include "aggregator/enrol/authority.h"
#include "aggregator/enrol/desk.h"
#include "aggregator/enrol/server_renewal.h"
#include "aggregator/enrol/service.h"
#include "aggregator/feed/service.h"
#include "aggregator/index/history.h"
#include "aggregator/ingest/service.h"
#include "aggregator/ingest/session.h"
#include "aggregator/ledger/anchor.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/ledger/pruner.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/ledger/repair.h"
#include "aggregator/own/own_agent.h"
#include "aggregator/query/lookup.h"
#include "aggregator/query/read_log.h"
#include "aggregator/query/service.h"
#include "aggregator/store_care.h"
#include "aggregator/transparency/service.h"
#include "aggregator/verify/verifier.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/base/thread_cpu.h"
#include "common/base/worker.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"
#include "common/format/control.h"
#include "common/format/note.h"
#include "common/format/recovery.h"
#include "common/http/observability.h"
#include "common/metrics/metrics.h"
#include "common/rpc/allowance.h"
#include "common/rpc/call_limit.h"
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

class OwnReadJournal final : public ReadJournal {
 public:
  OwnReadJournal(OwnAgent& own, const Clock& clock) : own_(own), clock_(clock) {}
  absl::Status Record(const Peer& who, std::string_view name, std::string details) override {
    const std::string uri = who.identity.ToUri();
    const std::string ip = who.address.substr(0, who.address.rfind(':'));
    OwnRecord record;
    record.name = name;
    record.time = clock_.Wall();
    record.account = own_.identity().account;
    record.region = own_.identity().region;
    record.who = uri;
    record.source_ip = ip;
    record.read_only = true;
    record.details = std::move(details);
    return own_.Record(std::move(record)).status();
  }

 private:
  OwnAgent& own_;
  const Clock& clock_;
};

}  // namespace

struct Aggregator::Impl {
  AggregatorConfig config;
  Metrics metrics;
  SigningKey log_key;
  std::pair<std::string, std::string> policy;
  std::string mac_key, kek;
  Fanout fanout;
  Registry registry;
  std::unique_ptr<CertificateAuthority> authority;

  std::unique_ptr<DirLock> lock;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Committer> committer;
  std::unique_ptr<Worker> committer_worker;
  std::unique_ptr<OwnAgent> own;
  std::unique_ptr<Worker> own_worker;
  std::unique_ptr<Alarms> alarms;
  std::unique_ptr<Notifier> notifier;
  MissingBodies missing;
  std::unique_ptr<StoreCare> care;
  std::unique_ptr<History> history;
  std::unique_ptr<Worker> history_worker, merger_worker, repack_worker;
  std::unique_ptr<Pruner> pruner;
  std::unique_ptr<Worker> prune_worker;

  std::unique_ptr<IngestService> ingest;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<Worker> sessions_worker;
  std::unique_ptr<Verifier> verifier;

  std::unique_ptr<Watch> watch;
  std::unique_ptr<Worker> watch_worker;
  std::unique_ptr<OwnReadJournal> journal;
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
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<Observability> observability;

  absl::Status ReadKeys(Fs& fs);
  absl::Status OpenStores(Fs& fs, const Clock& clock, Rng& rng);
  absl::StatusOr<std::optional<Recovery>> DeclaredRecovery(Fs& fs, std::string* note) const;
  absl::Status LogRecovery(const Recovery& recovery, const std::string& note, Fs& fs, const Clock& clock);
  absl::Status StartPath(const std::string& config_text, Fs& fs, const Clock& clock, Rng& rng);
  std::string OwnUri() const;
  absl::Status EnrolOwn(const Clock& clock);
  absl::Status LogPolicy(Fs& fs, const Clock& clock);
  absl::Status LogRepairs(Fs& fs, const Clock& clock);
  absl::Status StartFollowers(Fs& fs, const Clock& clock, Rng& rng);
  absl::Status OpenDoors(const Clock& clock);
  std::vector<FollowerFacts> Followers() const { return {{"history", history->indexed_to()}}; }
  HealthReport Health() const;
  void Stop();

  // Of one identity: agents keep a connection, people's commands open one each.
  Allowance agent_handshakes{100, 20}, other_handshakes{500, 50};
};

absl::Status Aggregator::Impl::ReadKeys(Fs& fs) {
  ASSIGN_OR_RETURN(std::string pem, ReadFile(fs, config.log_key, 64 << 10));
  absl::StatusOr<SigningKey> key = SigningKey::FromPem(pem);
  if (!key.ok()) return Annotate(key.status(), config.log_key);
  log_key = *std::move(key);
  ASSIGN_OR_RETURN(mac_key, ReadFile(fs, config.secrets, 1024));
  if (mac_key.size() != 32) return absl::FailedPreconditionError(config.secrets + ": must hold exactly 32 random bytes");
  if (!config.ledger_kek.empty()) {
    absl::StatusOr<std::string> bytes = ReadFile(fs, config.ledger_kek, 1024);
    if (!bytes.ok()) return Annotate(bytes.status(), "ledger.key_encryption_key: what is logged under it can be neither read nor continued without it");
    kek = *std::move(bytes);
    if (kek.size() != 32) return absl::FailedPreconditionError(config.ledger_kek + ": must hold exactly 32 random bytes (ledger.key_encryption_key)");
  }
  CaCertificate ca;
  ASSIGN_OR_RETURN(ca.cert_pem, ReadFile(fs, config.ca_certificate, 1 << 20));
  ASSIGN_OR_RETURN(ca.key_pem, ReadFile(fs, config.ca_key, 64 << 10));
  absl::StatusOr<CertificateAuthority> opened = CertificateAuthority::Open(config.org, ca);
  if (!opened.ok()) return Annotate(opened.status(), config.ca_certificate);
  authority = std::make_unique<CertificateAuthority>(*std::move(opened));
  for (const std::string& file : {config.tls_certificate, config.tls_key}) RETURN_IF_ERROR(ReadFile(fs, file, 1 << 20).status());
  if (!config.policy_note.empty()) {
    ASSIGN_OR_RETURN(policy.first, ReadFile(fs, config.policy_note, 1 << 20));
    ASSIGN_OR_RETURN(policy.second, ReadFile(fs, config.policy_body, 50 << 20));
  }
  return absl::OkStatus();
}

absl::Status Aggregator::Impl::OpenStores(Fs& fs, const Clock& clock, Rng& rng) {
  RETURN_IF_ERROR(fs.MakeDirs(config.state_dir, 0700));
  ASSIGN_OR_RETURN(lock, DirLock::Take(config.state_dir));
  LedgerOptions options;
  options.dir = JoinPath(config.state_dir, "ledger");
  options.anchor_dir = JoinPath(config.state_dir, "anchor");
  options.map_bytes = config.ledger_map_bytes;
  options.shard_bytes = config.ledger_shard_bytes;
  options.shard_period = config.ledger_shard_period;
  options.tail_bytes = config.tail_bytes;
  options.kek = kek;
  Histogram& commits = metrics.GetHistogram("orgtrail_ledger_commit_seconds", "time of one ledger transaction with its fsync; every receipt waits for one",
                                            Metrics::Latency());
  Histogram& fsyncs = metrics.GetHistogram("orgtrail_ledger_fsync_seconds",
                                           "time to write and flush one ledger transaction to the disk; p99 above 0.1: the disk is slow", Metrics::Latency());
  options.on_commit = [&commits, &fsyncs](absl::Duration commit, absl::Duration fsync) {
    commits.Observe(absl::ToDoubleSeconds(commit));
    fsyncs.Observe(absl::ToDoubleSeconds(fsync));
  };
  std::string declaration;
  ASSIGN_OR_RETURN(options.recovery, DeclaredRecovery(fs, &declaration));
  ASSIGN_OR_RETURN(ledger, Ledger::Open(options, config.Origin(), &log_key, fs, clock));
  if (options.recovery) RETURN_IF_ERROR(LogRecovery(*options.recovery, declaration, fs, clock));
  RETURN_IF_ERROR(registry.Load(*ledger));
  ledger->SetCarries([this](const Uuid& uuid) {
    std::optional<AgentIdentityRecord> agent = registry.Agent(uuid);
    return agent ? agent->carries : std::string();
  });
  committer = std::make_unique<Committer>(*ledger, fanout, kCommitterInbox, clock);
  committer_worker = std::make_unique<Worker>("committer", *committer, clock);
  committer->Poked([this] { committer_worker->Poke(); });
  alarms = std::make_unique<Alarms>(config.management_account, config.region, JoinPath(config.state_dir, "derived/alarms.json"), fs,
                                    clock, rng, metrics);
  RETURN_IF_ERROR(fs.MakeDirs(JoinPath(config.state_dir, "derived"), 0700));
  if (absl::Status loaded = alarms->Load(); !loaded.ok()) LogWarn("the list of alarms starts empty", {{"why", Describe(loaded)}});
  notifier = std::make_unique<Notifier>(config.alarm_webhook, config.alarm_exec, metrics);
  return absl::OkStatus();
}

// What governance left beside a ledger that lost its newest leaves: state_dir/recovery.note. Nothing: no such file.
absl::StatusOr<std::optional<Recovery>> Aggregator::Impl::DeclaredRecovery(Fs& fs, std::string* note) const {
  const std::string path = JoinPath(config.state_dir, "recovery.note");
  absl::StatusOr<std::string> text = ReadFile(fs, path, 64 << 10);
  if (absl::IsNotFound(text.status())) return std::optional<Recovery>();
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<GovernanceKeys> keys = GovernanceKeys::OfPolicy(policy.first);
  if (!keys.ok()) return Annotate(keys.status(), path + " cannot be checked");
  absl::StatusOr<Recovery> recovery = OpenRecovery(*text, *keys, config.Origin());
  if (!recovery.ok()) return Annotate(recovery.status(), path);
  *note = *std::move(text);
  return std::optional<Recovery>(*std::move(recovery));
}

// Before anything else: the declaration is the first leaf behind the head it names. Then the anchor, then the file gives way; a crash in
// between comes back here.
absl::Status Aggregator::Impl::LogRecovery(const Recovery& recovery, const std::string& note, Fs& fs, const Clock& clock) {
  if (ledger->head().size == recovery.restored_size) {
    Admitted item;
    item.leaf = std::make_shared<Leaf>();
    item.leaf->bytes = RecoveryLeaf{static_cast<uint64_t>(clock.WallNanos()), note}.Encode();
    item.leaf->hash = LeafHash(item.leaf->bytes);
    RETURN_IF_ERROR(ledger->Append(std::span(&item, 1)).status());
  }
  const std::string path = JoinPath(config.state_dir, "recovery.note"), anchor_dir = JoinPath(config.state_dir, "anchor");
  const std::string lost = JoinPath(anchor_dir, "head"), evidence = absl::StrCat(lost, ".lost-", recovery.restored_size);
  if (fs.Facts(lost).ok() && !fs.Facts(evidence).ok()) {
    ASSIGN_OR_RETURN(const std::string given_up, ReadFile(fs, lost, 64 << 10));
    RETURN_IF_ERROR(WriteFileAtomically(fs, evidence, given_up));
  }
  RETURN_IF_ERROR(Anchor(anchor_dir, fs).Store(ledger->head().note));
  RETURN_IF_ERROR(fs.Rename(path, absl::StrCat(path, ".", recovery.restored_size), Fsync::kYes));
  LogWarn("The log goes on from an older head, as governance declared; agents send again what it lacks.",
          {{"restored", std::to_string(recovery.restored_size)}, {"lost", std::to_string(recovery.lost_size)}});
  return absl::OkStatus();
}

absl::Status Aggregator::Impl::StartPath(const std::string& config_text, Fs& fs, const Clock& clock, Rng& rng) {
  const Findings findings = [this](std::string_view code, Severity severity, std::string_view subject, std::string_view detail) {
    alarms->Raise(code, severity, subject, detail, AlarmKind::kEvent);
  };
  OwnAgentOptions own_options;
  own_options.org = config.org;
  own_options.account = config.management_account;
  own_options.region = config.region;
  own_options.origin = config.Origin();
  own_options.dir = JoinPath(config.state_dir, "own");
  own_options.journal_when_full = config.reads_allow;
  own_options.heartbeat_interval = config.heartbeat_interval;
  own_options.config = Sha256(config_text);
  ASSIGN_OR_RETURN(own, OwnAgent::Open(own_options, *ledger, *committer, fs, clock, rng));
  own_worker = std::make_unique<Worker>("own", *own, clock);
  own->Poked([this] { own_worker->Poke(); });
  alarms->Wire([this](OwnRecord record) { own->Post(std::move(record)); }, [this](const AlarmState& a) { notifier->Notify(a); });

  ingest = std::make_unique<IngestService>();
  SessionOptions session_options;
  session_options.log_vkey = NoteKey{config.Origin(), 1, log_key.public_key()}.Encode();
  session_options.least_interval_ms = static_cast<uint32_t>(config.batch_interval_ms);
  session_options.heartbeat_s = static_cast<uint32_t>(absl::ToInt64Seconds(config.heartbeat_interval));
  session_options.policy = [this] { return policy; };
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
  RETURN_IF_ERROR(EnrolOwn(clock));
  auto caller = std::make_shared<Caller>();
  caller->identity.kind = Identity::Kind::kAgent;
  caller->identity.org = config.org;
  caller->identity.account = config.management_account;
  caller->identity.region = config.region;
  caller->identity.name = own->identity().name;
  caller->address = "own";
  const Uuid uuid = own->identity().uuid;
  RETURN_IF_ERROR(own->Start([this, caller, uuid](std::string frame) -> absl::Status {
    Submission submission{0, caller, uuid, std::move(frame)};
    return verifier->TryEnter(submission) ? absl::OkStatus() : absl::ResourceExhaustedError("verify is full");
  }));
  own_worker->Start();
  RETURN_IF_ERROR(LogRepairs(fs, clock));
  return LogPolicy(fs, clock);
}

std::string Aggregator::Impl::OwnUri() const {
  Identity identity;
  identity.org = config.org;
  identity.account = config.management_account;
  identity.region = config.region;
  identity.name = own->identity().name;
  return identity.ToUri();
}

absl::Status Aggregator::Impl::EnrolOwn(const Clock& clock) {
  if (registry.Agent(own->identity().uuid)) return absl::OkStatus();
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kEnrolled;
  leaf.wall_ns = static_cast<uint64_t>(clock.WallNanos());
  leaf.uuid = own->identity().uuid;
  leaf.uri = OwnUri();
  leaf.identity_key = std::string(View(own->identity_key()));
  leaf.approver = leaf.uri;
  leaf.reason = "the aggregator's built-in agent";
  return LogThrough(*committer, registry, kLogLimit)(leaf).status();
}

absl::Status Aggregator::Impl::LogPolicy(Fs& fs, const Clock& clock) {
  if (policy.first.empty()) return absl::OkStatus();
  const std::string path = JoinPath(config.state_dir, "own/policy-logged");
  const std::string hash = Hex(Sha256(policy.first).view()) + "\n";
  absl::StatusOr<std::string> logged = ReadFile(fs, path);
  if (logged.ok() && *logged == hash) return absl::OkStatus();
  PolicyLeaf policy_leaf;
  policy_leaf.wall_ns = static_cast<uint64_t>(clock.WallNanos());
  policy_leaf.note = policy.first;
  if (policy.second.size() <= 60 << 10) policy_leaf.body = policy.second;
  auto leaf = std::make_shared<Leaf>();
  leaf->bytes = policy_leaf.Encode();
  leaf->hash = LeafHash(leaf->bytes);
  Admitted item;
  item.leaf = std::move(leaf);
  RETURN_IF_ERROR(committer->SubmitAndWait(std::move(item), kLogLimit).status());
  return WriteFileAtomically(fs, path, hash);
}

// What was done to the ledger's files while nothing ran (`orgtrail repair`). Ended before the file is removed, it is logged twice.
absl::Status Aggregator::Impl::LogRepairs(Fs& fs, const Clock& clock) {
  const std::string path = JoinPath(config.state_dir, kRepairedFile);
  const absl::StatusOr<std::string> text = ReadFile(fs, path, 1 << 20);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  EvidenceLeaf evidence;
  evidence.code = "LEDGER_REPAIRED";
  evidence.wall_ns = static_cast<uint64_t>(clock.WallNanos());
  evidence.uri = OwnUri();
  evidence.detail = text->substr(0, std::min<size_t>(text->size(), 1000));
  evidence.object = text->substr(0, std::min<size_t>(text->size(), 60 << 10));
  auto leaf = std::make_shared<Leaf>();
  leaf->bytes = evidence.Encode();
  leaf->hash = LeafHash(leaf->bytes);
  Admitted item;
  item.leaf = std::move(leaf);
  RETURN_IF_ERROR(committer->SubmitAndWait(std::move(item), kLogLimit).status());
  alarms->Raise("LEDGER_REPAIRED", Severity::kInfo, "ledger", evidence.detail, AlarmKind::kEvent);
  return fs.Remove(path);
}

absl::Status Aggregator::Impl::StartFollowers(Fs& fs, const Clock& clock, Rng& rng) {
  HistoryOptions options;
  options.dir = JoinPath(config.state_dir, "derived/history");
  options.keep = config.history_keep;
  ASSIGN_OR_RETURN(history, History::Open(options, *ledger, fs, clock, metrics));
  history_worker = std::make_unique<Worker>("history", *history, clock);
  merger_worker = std::make_unique<Worker>("merge", history->merger(), clock);
  WatchOptions watch_options;
  watch_options.heartbeat_interval = config.heartbeat_interval;
  watch_options.state_dir = config.state_dir;
  watch_options.own = own->identity().uuid;
  watch_options.accounts = config.accounts;
  watch_options.coverage_grace = config.coverage_grace;
  watch_options.ledger_full = [this] { return committer->held_why(); };
  watch = std::make_unique<Watch>(
      watch_options, *ledger, registry, *alarms,
      [log = LogThrough(*committer, registry, kLogLimit)](const IdentityLeaf& leaf) { return log(leaf).status(); },
      [this] { return ledger->stats().used_bytes; }, [this] { return Followers(); }, fs,
      clock, metrics);
  watch_worker = std::make_unique<Worker>("watch", *watch, clock);
  history_worker->Start();
  fanout.history.store(history_worker.get());
  merger_worker->Start();
  if (config.ledger_repack) {
    repack_worker = std::make_unique<Worker>("repack", *ledger->Background(), clock);
    repack_worker->Start();
  }
  PrunerOptions pruner_options;
  pruner_options.keep = config.ledger_retention;
  pruner_options.order_file = JoinPath(config.state_dir, "retention.note");
  pruner_options.own = own->identity().uuid;
  pruner_options.tell = [this](std::string_view code, bool refused, std::string_view what) {
    alarms->Raise(code, refused ? Severity::kPage : Severity::kWarn, "retention", what, AlarmKind::kEvent);
  };
  pruner = std::make_unique<Pruner>(pruner_options, *ledger, *committer, fs, clock);
  RETURN_IF_ERROR(pruner->Load());
  prune_worker = std::make_unique<Worker>("prune", *pruner, clock);
  prune_worker->Start();
  watch_worker->Start();
  care = std::make_unique<StoreCare>(StoreCare::Parts{config, own->identity().uuid, *ledger, missing, *history, registry, *alarms,
                                                      [this, &fs, &clock] { return LogRepairs(fs, clock); }, fs, clock, metrics});
  care->Start();

  const auto live = [this](const AgentHead& head) {
    std::optional<AgentIdentityRecord> agent = registry.Agent(head.uuid);
    return agent && watch->LifeOf(*agent, head) == AgentLife::kLive;
  };
  journal = std::make_unique<OwnReadJournal>(*own, clock);
  reads = std::make_unique<ReadLog>(*journal, clock, config.reads_allow);
  reads_worker = std::make_unique<Worker>("reads", *reads, clock);
  reads_worker->Start();
  completeness = std::make_unique<Completeness>(*ledger, registry, *history, live, clock);
  lookup = std::make_unique<Lookup>(*history, *ledger, *completeness, mac_key);
  query = std::make_unique<QueryService>(*lookup, *journal, metrics, AdmittedPeers(registry));
  feed = std::make_unique<FeedService>(FeedOptions{}, *ledger, *history, registry, *completeness, *journal, mac_key, clock, metrics,
                                       AdmittedPeers(registry));
  proofs = std::make_unique<Transparency>(*ledger, registry, *lookup, *completeness, NoteKey{config.Origin(), 1, log_key.public_key()}.Encode());
  transparency = std::make_unique<TransparencyService>(*proofs, *journal, *reads, metrics, AdmittedPeers(registry));

  OfficeParts parts{*authority, *ledger, registry, LogThrough(*committer, registry, kLogLimit), *sessions, *alarms, *watch,
                    [this] { return Followers(); },
                    [this] { return static_cast<uint32_t>(feed->subscriptions()); },
                    [this](const std::string& account) -> std::string {
                      if (!IsAccountId(account)) return "an account id is 12 digits, such as 222222222222";
                      for (const std::string& a : config.accounts) {
                        if (a == account) return "";
                      }
                      return "account " + account + " is not of this organization; add it to accounts in aggregator.yaml and restart";
                    },
                    [this](const std::string& region) -> std::string {
                      if (region.empty() || region == config.region) return "";
                      for (const std::string& r : config.regions) {
                        if (r == region) return "";
                      }
                      return "region " + region + " is not of this organization; add it to regions in aggregator.yaml and restart";
                    },
                    [this, &clock](const Identity& who, std::string_view name, std::string details, std::string_view error_code) {
                      const std::string uri = who.ToUri();
                      OwnRecord record;
                      record.name = name;
                      record.time = clock.Wall();
                      record.account = config.management_account;
                      record.region = config.region;
                      record.who = uri;
                      record.error_code = error_code;
                      record.details = std::move(details);
                      return own->Record(std::move(record)).status();
                    },
                    own->identity().uuid, policy.first.find("\nadmins 1 ") != std::string::npos, clock, rng, [this] { return pruner->facts(); }};
  office = std::make_unique<Office>(std::move(parts));
  admin = std::make_unique<AdminService>(*office, registry, *reads);

  EnrolOptions enrol_options;
  enrol_options.origin = config.Origin();
  enrol_options.log_vkey = NoteKey{config.Origin(), 1, log_key.public_key()}.Encode();
  enrol_options.certificate_life = config.certificate_life;
  enrol_options.said_goodbye = [this](const Uuid& uuid) {
    const std::optional<AgentHead> head = ledger->HeadOf(uuid);
    return head && head->retired;
  };
  desk = std::make_unique<EnrolDesk>(
      enrol_options, *authority, registry, LogThrough(*committer, registry, kLogLimit),
      [this](std::string_view code, std::string_view subject, std::string_view detail) {
        alarms->Raise(code, Severity::kWarn, subject, detail, AlarmKind::kEvent);
      },
      [this] { return policy; }, clock, rng);

  renewal = std::make_unique<ServerRenewal>(
      config.tls_certificate, config.tls_key, *authority,
      [this](bool page, std::string_view subject, std::string_view detail) {
        if (detail.empty()) return alarms->Clear("CERTIFICATE_EXPIRING", subject);
        alarms->Raise("CERTIFICATE_EXPIRING", page ? Severity::kPage : Severity::kWarn, subject, detail);
      },
      fs, clock);
  renewal->Step(clock.Now());   // the doors open with a certificate that holds
  renewal_worker = std::make_unique<Worker>("renewal", *renewal, clock);
  renewal_worker->Start();

  Gauge& used = metrics.GetGauge("orgtrail_ledger_bytes", "bytes the ledger uses, all shards");
  Gauge& active = metrics.GetGauge("orgtrail_ledger_active_bytes", "bytes of the shard that grows; at shard_bytes it is sealed");
  Gauge& shards = metrics.GetGauge("orgtrail_ledger_shards", "shards, the one that grows included");
  Gauge& to_repack = metrics.GetGauge("orgtrail_ledger_shards_to_repack", "sealed shards that are not repacked yet");
  Gauge& leaves = metrics.GetGauge("orgtrail_ledger_leaves", "size of the tree: signed leaves");
  Gauge& events = metrics.GetGauge("orgtrail_ledger_events", "records in the ledger");
  Gauge& readers = metrics.GetGauge("orgtrail_ledger_oldest_reader_txns", "commits the oldest open read is behind; growing: a reader forgot to let go");
  Gauge& queue = metrics.GetGauge("orgtrail_committer_queue_batches", "verified batches waiting for the next commit");
  Gauge& held = metrics.GetGauge("orgtrail_committer_held", "1: the disk or map is full and a group waits");
  Gauge& server_ends = metrics.GetGauge("orgtrail_server_certificate_expiry_timestamp_seconds", "when the doors' certificate runs out, Unix time");
  Gauge& ca_ends = metrics.GetGauge("orgtrail_ca_certificate_expiry_timestamp_seconds", "when the organization's CA runs out, Unix time");
  metrics.OnCollect([this, &server_ends, &ca_ends, &used, &active, &shards, &to_repack, &leaves, &events, &readers, &queue, &held] {
    const Ledger::Stats stats = ledger->stats();
    const SignedHead head = ledger->head();
    used.Set(static_cast<double>(stats.used_bytes));
    active.Set(static_cast<double>(stats.active_bytes));
    shards.Set(stats.shards);
    to_repack.Set(stats.to_repack);
    leaves.Set(static_cast<double>(head.size));
    events.Set(static_cast<double>(head.events));
    readers.Set(static_cast<double>(stats.oldest_reader_txns));
    queue.Set(static_cast<double>(committer->queued()));
    held.Set(committer->held() ? 1 : 0);
    const ServerRenewal::Facts certificates = renewal->facts();
    server_ends.Set(static_cast<double>(certificates.server_not_after_ns) / 1e9);
    ca_ends.Set(static_cast<double>(certificates.ca_not_after_ns) / 1e9);
  });
  ExportProcess(metrics, "orgtrail-aggregator");
  return absl::OkStatus();
}

absl::Status Aggregator::Impl::OpenDoors(const Clock& clock) {
  const TlsFiles files{config.tls_certificate, config.tls_key, config.ca_certificate};
  grpc::ServerBuilder builder;
  int port = 0;
  // Connections without a call are closed after a minute (rpc/credentials.cc): so an identity never has many of them.
  const std::shared_ptr<grpc::ServerCredentials> credentials = MutualServerCredentials(files, config.org, [this, &clock](const Identity& who) {
    Allowance& allowance = who.kind == Identity::Kind::kAgent ? agent_handshakes : other_handshakes;
    return allowance.Take(who.ToUri(), clock.Now()) == Allowance::Took::kOne;
  });
  SetServerLimits(builder);
  // gRPC buffers a message as far as it comes before it compares its length with the limit: beyond this it ends streams instead.
  grpc::ResourceQuota quota("door");
  quota.Resize(config.connection_bytes);
  builder.SetResourceQuota(quota);
  builder.SetMaxSendMessageSize(64 << 20);
  Counter& cuts = metrics.GetCounter("orgtrail_rpc_connections_cut_total", "Connections closed because they began more calls than anybody needs.");
  CallLimit calls;
  calls.single = "/orgtrail.v1.Ingest/Push";
  calls.cut = [&cuts](const std::string& address) {
    cuts.Add();
    LogWarn("A connection began far more calls than anybody needs and was closed.", {{"address", address}});
  };
  credentials->SetAuthMetadataProcessor(MakeCallGate(calls, clock));
  AddCallLimit(builder, std::move(calls), clock);
  builder.AddListeningPort(config.listen, credentials, &port);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 64);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
  builder.RegisterService(ingest->service());
  builder.RegisterService(query.get());
  builder.RegisterService(feed.get());
  builder.RegisterService(transparency.get());
  builder.RegisterService(admin->service());
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::FailedPreconditionError("cannot listen on " + config.listen +
                                         ": is another aggregator running there? Otherwise choose another `listen`");
  }
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
  if (server) server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoSeconds(kShutdown));
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
  if (history_worker) history_worker->Stop();
  if (merger_worker) merger_worker->Stop();
  if (repack_worker) repack_worker->Stop();
  if (prune_worker) prune_worker->Stop();
  if (history) {
    if (absl::Status flushed = history->Flush(); !flushed.ok()) LogWarn("the newest history is rebuilt at the next start", {{"why", Describe(flushed)}});
  }
  if (notifier) notifier->Stop();
  if (alarms) {
    if (absl::Status saved = alarms->Save(); !saved.ok()) LogWarn("the list of alarms was not saved", {{"why", Describe(saved)}});
  }
  server.reset();
  enrol_server.reset();
}

Aggregator::Aggregator() : impl_(std::make_unique<Impl>()) {}

Aggregator::~Aggregator() { impl_->Stop(); }

absl::StatusOr<std::unique_ptr<Aggregator>> Aggregator::Start(const AggregatorConfig& config, const std::string& config_text, Fs& fs,
                                                              const Clock& clock, Rng& rng) {
  std::unique_ptr<Aggregator> a(new Aggregator());
  Impl& impl = *a->impl_;
  impl.config = config;
  RETURN_IF_ERROR(impl.ReadKeys(fs));
  RETURN_IF_ERROR(impl.OpenStores(fs, clock, rng));
  RETURN_IF_ERROR(impl.StartPath(config_text, fs, clock, rng));
  RETURN_IF_ERROR(impl.StartFollowers(fs, clock, rng));
  RETURN_IF_ERROR(impl.OpenDoors(clock));
  const SignedHead head = impl.ledger->head();
  LogInfo("aggregator is up", {{"origin", config.Origin()}, {"listen", config.listen}, {"enrol", config.enrol_listen},
                               {"metrics", config.metrics_listen}, {"leaves", std::to_string(head.size)}, {"records", std::to_string(head.events)}});
  return a;
}

}  // namespace orgtrail
