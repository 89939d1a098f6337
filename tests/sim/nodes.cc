#include "tests/sim/nodes.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/base/status.h"
#include "orgtrail/v1/ingest.pb.h"

namespace orgtrail::sim {
namespace {

std::string FrameMessage(const std::string& frame) {
  v1::PushRequest request;
  request.set_frame(frame);
  return request.SerializeAsString();
}

Hash LeafOf(std::string_view frame) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  CHECK_OK(view.status());
  return LeafHash(view->entry);
}

std::string Text(BatchKey key) { return absl::StrCat("(", key.epoch, ", ", key.batch_seq, ")"); }

std::string MakeDir(std::string dir) {
  std::filesystem::create_directories(dir);
  return dir;
}

}  // namespace

std::string LineOf(std::string_view record) {
  const size_t at = record.find("\"requestID\":\"");
  if (at == std::string_view::npos) return "";
  const std::string_view rest = record.substr(at + 13);
  return std::string(rest.substr(0, rest.find('"')));
}

Machine::Machine(World& world, std::string n, std::string dir, uint64_t seed)
    : name(std::move(n)), disk(MakeDir(std::move(dir)), seed), clock(world.now_ns), world_(world) {
  disk.lost_dir_sync = Planted(Mutant::kLostDirSync);
}

// ---- agents --------------------------------------------------------------------------------------------------------------------

AgentNode::AgentNode(World& world, size_t n, std::string dir, uint64_t seed)
    : Machine(world, absl::StrCat("agent ", n), std::move(dir), seed),
      number(n),
      rng(seed * 31 + 7),
      key(SigningKey::Generate(rng)),
      backoff(rng) {
  identity = {Uuid::Random(rng), "o-sim", absl::StrCat("11111111111", n), n % 2 == 0 ? "eu-west-1" : "us-east-1", absl::StrCat("host-", n)};
}

Caller AgentNode::Who() const {
  return Caller{orgtrail::Identity{orgtrail::Identity::Kind::kAgent, identity.org, identity.account, identity.region, identity.name}, "0a", "127.0.0.1:1"};
}

void AgentNode::Start() {
  disk.Revive();
  running = true;
  metrics = std::make_unique<Metrics>();
  const auto gives_up = [&](const absl::Status& status) {
    world_.Note(name, "does not start: " + Describe(status));
    if (!disk.full && !disk.failed_since_start && !disk.dead()) world_.Fail(name + " does not start: " + Describe(status));
    disk.Die();   // as any failed start: restarted later
  };
  SpoolOptions options;
  options.max_bytes = 16 << 20;
  if (world_.ForgetsAcked()) options.keep_acked = absl::Seconds(1);
  absl::StatusOr<std::unique_ptr<Spool>> opened = Spool::Open(disk.dir() + "/state/spool", options, disk, clock);
  if (!opened.ok()) return gives_up(opened.status());
  spool = *std::move(opened);
  const SpoolTail tail = spool->tail();
  if (!copy.empty() && copy_tail == BatchKey{}) copy_tail = {tail.epoch, tail.batch_seq};
  acked = spool->Facts().acked_through;
  PipelineOptions pipe_options;
  pipe_options.origin = world_.aggregator->origin;
  pipe_options.executable = Sha256("executable");
  pipe_options.config = Sha256("config");
  pipe_options.cert_serial = "0a";
  pipeline = std::make_unique<Pipeline>(identity, key, *spool, pipe_options, clock, rng, *metrics);
  if (absl::Status s = pipeline->Open(); !s.ok()) return gives_up(s);
  absl::StatusOr<std::vector<FilePosition>> positions = pipeline->Positions();
  if (!positions.ok()) return gives_up(positions.status());
  read = positions->empty() ? 0 : positions->front().offset;
  UplinkSessionOptions session_options;
  session_options.uuid = identity.uuid;
  session_options.version = "sim";
  session_options.run = std::string(Uuid::Random(rng).view());
  session_options.accept_restored_log = world_.aggregator->restored;   // --resend-from
  UplinkReports reports;
  reports.pace = [this](uint32_t batch_ms, uint32_t heartbeat_s) {
    pipeline->SetIntervals(absl::Milliseconds(batch_ms), absl::Seconds(heartbeat_s));
  };
  reports.report = [this](std::string_view code, std::string_view detail) {
    world_.Note(name, "reports " + std::string(code) + ": " + std::string(detail.substr(0, 160)));
    reported.insert(std::string(code));
    if (todo.size() < 64) todo.emplace_back(code);
  };
  reports.bodies_lost = [this](const BatchHeader& h) {
    world_.Note(name, "its disk lost the bodies of " + Text({h.epoch, h.batch_seq}));
    pipeline->Note("Loss", "{\"cause\":\"decode\"}", EventClass::kLoss);
  };
  session = std::make_unique<UplinkSession>(session_options, world_.aggregator->log_vkey(), *spool, clock, std::move(reports));
  rejoin = std::make_unique<Rejoin>(*spool, *pipeline, *session, [] { return false; });
  connect_ns = world_.now_ns;
  world_.Note(name, absl::StrCat("starts after ", Text({tail.epoch, tail.batch_seq}), tail.closed ? " closed" : "", ", acked ", Text(acked),
                                 ", at line ", read));
}

void AgentNode::Drop() {
  disk.Die();
  if (pipe) {
    pipe->agent_gone = true;
    pipe.reset();
  }
  rejoin.reset();
  session.reset();
  pipeline.reset();
  spool.reset();
  metrics.reset();
  todo.clear();
  running = false;
}

void AgentNode::Rot(Rng& chance, bool beyond_mending) {
  std::vector<BatchKey> waiting;
  for (std::optional<BatchKey> key = spool->KeyAfter(spool->Facts().acked_through); key && waiting.size() < 100; key = spool->KeyAfter(*key)) {
    waiting.push_back(*key);
  }
  if (waiting.empty()) return;
  const BatchKey key = waiting[chance.Below(waiting.size())];
  const absl::StatusOr<std::string> frame = spool->Read(key);
  if (!frame.ok()) return;             // it is rotten
  const FrameView view = *FrameView::Decode(*frame);
  ZstdDecompressor zstd;
  const absl::StatusOr<Events> events = InflateFrame(view, zstd);
  if (events.ok()) {                   // else its bodies are gone
    for (const Row& row : events->rows) {
      if (std::string line = LineOf(row.body); !line.empty()) rotten.insert(std::move(line));
    }
  }
  const std::string path = disk.dir() + "/state/spool/data.mdb";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  // The entry stands in the frame and in its copy; what is small lies in several versions of a page.
  const std::string_view whole = beyond_mending ? view.entry : std::string_view(*frame);
  const size_t in_it = chance.Below(whole.size());
  const char changed = static_cast<char>(whole[in_it] ^ (1 << chance.Below(8)));
  int places = 0;
  for (size_t at = 0; (at = bytes.find(whole, at)) != std::string::npos; ++at, ++places) {
    file.seekp(static_cast<std::streamoff>(at + in_it));
    file.put(changed);
  }
  world_.Note(name, absl::StrCat("its disk changes byte ", in_it, " of ", Text(key), beyond_mending ? "'s entry" : "", " in ", places, " places"));
}

void AgentNode::Stop() {
  if (absl::Status closed = pipeline->Close(false); !closed.ok()) {
    world_.Note(name, "cannot close: " + Describe(closed));
    ++crashes;   // the next epoch says so
  }
}

void AgentNode::Write() {
  const uint64_t n = 1 + world_.rng.Below(6);
  for (uint64_t i = 0; i < n; ++i) {
    lines.push_back(TestRecord(number * 1'000'000 + lines.size(), identity.account, identity.region, absl::FromUnixNanos(world_.now_ns)));
  }
}

void AgentNode::Tail() {
  if (read >= lines.size()) return;
  const uint64_t n = std::min<uint64_t>(lines.size() - read, 1 + world_.rng.Below(10));
  RawChunk chunk;
  chunk.source = "file:/var/log/app.jsonl";
  for (uint64_t i = 0; i < n; ++i) chunk.texts.push_back(lines[read + i]);
  FilePosition position;
  position.key = "app";
  position.path = "/var/log/app.jsonl";
  position.offset = read + n;
  chunk.positions.push_back(position);
  const absl::StatusOr<Taken> taken = pipeline->Take(chunk);
  if (taken.ok()) {
    read += n;
  } else if (!absl::IsResourceExhausted(taken.status())) {
    world_.Fail(name + ": Take: " + Describe(taken.status()));
  }
}

void AgentNode::Seal() { pipeline->Step(clock.Now()); }

void AgentNode::StreamEnded(const std::string& why) {
  const absl::Duration healthy = session && session->welcomed() ? absl::Nanoseconds(world_.now_ns - connected_ns) : absl::ZeroDuration();
  connect_ns = world_.now_ns + absl::ToInt64Nanoseconds(backoff.Next(healthy));
  world_.Note(name, "stream ended: " + why.substr(0, 160));
  if (pipe) pipe->agent_gone = true;
  pipe.reset();
}

void AgentNode::Uplink() {
  if (!pipe) {
    if (world_.now_ns >= connect_ns) world_.Connect(*this);
    return;
  }
  if (absl::Status stalls = session->CheckStalls(); !stalls.ok()) return StreamEnded(Describe(stalls));
  for (int i = 0; i < 8; ++i) {
    absl::StatusOr<std::optional<std::string>> frame = session->Next();
    if (!frame.ok()) return StreamEnded(Describe(frame.status()));
    if (!frame->has_value()) return;
    pipe->up.push_back({FrameMessage(**frame), world_.now_ns + static_cast<int64_t>(world_.rng.Below(30'000'000))});
  }
}

void AgentNode::Receive(const std::string& bytes) {
  if (absl::Status status = session->OnMessage(bytes); !status.ok()) StreamEnded(Describe(status));
}

// What the agent's main program does with a report.
void AgentNode::Handle() {
  for (const std::string& code : std::exchange(todo, {})) {
    rejoin->Report(code, "as the simulator has it");
    if (code != "ORIGIN_MISMATCH") continue;
    if (absl::Status opened = pipeline->NewEpoch(EpochReason::kHandover).status(); !opened.ok()) {
      world_.Note(name, "no new epoch: " + Describe(opened));
    }
  }
  GoOn();
}

// In the agent's program another thread seals meanwhile.
void AgentNode::GoOn() {
  pipeline->Poked([this] { Seal(); });
  rejoin->Step();
  pipeline->Poked(nullptr);
  for (const Branch& b : spool->branches()) {
    if (!gaps.insert(b).second) continue;
    for (const auto& [key, told_lines] : told) {
      if (InGap(key)) may_be_gone.insert(told_lines.begin(), told_lines.end());
    }
    world_.Note(name, "goes on behind " + Text(b.after) + " with " + Text(b.opened));
  }
}

void AgentNode::Act() {
  switch (world_.rng.Below(8)) {
    case 0: Write(); break;
    case 1:
    case 2: Tail(); break;
    case 3:
    case 4: Seal(); break;
    case 5: Handle(); break;
    default: Uplink(); break;
  }
  if (running && !disk.dead()) CheckAcked();
}

void AgentNode::Work() {
  Tail();
  Seal();
  Handle();
  Uplink();
  if (running && !disk.dead()) CheckAcked();
}

bool AgentNode::Drained() const {
  if (!running || read != lines.size() || !session->Drained() || spool->Facts().unacked_batches > 0) return false;
  const absl::StatusOr<std::vector<FilePosition>> sealed = pipeline->Positions();   // what is in no batch yet is not
  return sealed.ok() && (sealed->empty() ? lines.empty() : sealed->front().offset == lines.size());
}

bool AgentNode::AlarmOwed() const {
  if (!must_alarm && !cloned) return false;   // two that run at once speak of the same place, at the latest with a heartbeat
  const auto& all = world_.aggregator->findings;
  const auto it = all.find(identity.account + "/" + identity.region + "/" + identity.name);
  if (it == all.end()) return true;
  return !it->second.contains("EQUIVOCATION") && !it->second.contains("EPOCH_CONFLICT") && !it->second.contains("EPOCH_STALE");
}

// Before anything of it can be forgotten: what each batch holds.
void AgentNode::NoteSealed() {
  for (auto next = spool->Next(noted); next.ok() && next->has_value(); next = spool->Next(noted)) {
    noted = (*next)->first;
    ZstdDecompressor zstd;
    const absl::StatusOr<FrameView> view = FrameView::Decode((*next)->second);
    const absl::StatusOr<Events> events = view.ok() ? InflateFrame(*view, zstd) : view.status();
    for (const Row& row : events.ok() ? events->rows : std::vector<Row>()) {
      if (std::string line = LineOf(row.body); !line.empty()) told[noted].push_back(std::move(line));
    }
  }
}

void AgentNode::CheckAcked() {
  if (world_.ForgetsAcked()) NoteSealed();

  const BatchKey now = spool->Facts().acked_through;
  while (acked < now) {
    absl::StatusOr<std::optional<std::pair<BatchKey, std::string>>> next = spool->Next(acked);
    if (!next.ok() || !next->has_value() || (*next)->first > now) {
      acked = now;
      return;
    }
    acked = (*next)->first;
    proven.emplace(acked, LeafOf((*next)->second));
  }
}

// ---- the aggregator ------------------------------------------------------------------------------------------------------------

AggregatorNode::AggregatorNode(World& world, std::string dir, uint64_t seed)
    : Machine(world, "aggregator", std::move(dir), seed), rng(seed * 31 + 11), log_key(SigningKey::Generate(rng)) {}

void AggregatorNode::Start() {
  disk.Revive();
  running = true;
  metrics = std::make_unique<Metrics>();
  const auto gives_up = [&](const absl::Status& status) {
    world_.Note(name, "does not start: " + Describe(status));
    if (!disk.full && !disk.failed_since_start && !disk.dead()) world_.Fail("the aggregator does not start: " + Describe(status));
    disk.Die();
  };
  LedgerOptions options;
  options.dir = disk.dir() + "/data/ledger";
  options.anchor_dir = disk.dir() + "/data/anchor";
  options.map_bytes = 64 << 20;
  options.shard_bytes = 1;          // so that it rolls as often as the period lets it
  options.shard_period = absl::InfiniteDuration();
  absl::StatusOr<std::unique_ptr<Ledger>> opened = Ledger::Open(options, origin, &log_key, disk, clock);
  if (restored && absl::IsFailedPrecondition(opened.status()) && !shown.empty()) {
    world_.Note(name, "refuses: " + Describe(opened.status()).substr(0, 120) + "; governance declares a recovery");
    std::filesystem::remove(options.anchor_dir + "/head");
    LedgerOptions look = options;
    look.read_only = true;
    look.anchor_dir.clear();
    if (const auto here = Ledger::Open(look, origin, nullptr, disk, clock); here.ok()) {
      const SignedHead head = (*here)->head();
      options.recovery = Recovery{origin, head.size, head.root, head.size, head.root, 1};
    }
    opened = Ledger::Open(options, origin, &log_key, disk, clock);
  }
  if (!opened.ok()) return gives_up(opened.status());
  ledger = *std::move(opened);
  if (restored && !std::exchange(told, true)) {
    world_.Note(name, absl::StrCat("goes back from at least ", shown.empty() ? 0 : shown.rbegin()->first, " to ", ledger->head().size,
                                   " leaves; everybody is told"));
    shown.erase(shown.upper_bound(ledger->head().size), shown.end());
    for (Reader& reader : world_.readers) {
      reader.cursor.clear();
      reader.got.clear();
    }
    for (auto& agent : world_.agents) {
      if (!agent->running) continue;
      agent->Drop();
      ++agent->crashes;
    }
  }
  for (const auto& [size, root] : shown) {
    const absl::StatusOr<Hash> now = ledger->Root(size);
    if (now.ok() && *now == root) continue;
    world_.Fail(absl::StrCat("the log showed a head at ", size, " leaves and after a restart has ", ledger->head().size, " leaves",
                             now.ok() ? " with another root there" : ""));
    return disk.Die();
  }
  if (ledger->head().size == 0) {
    std::vector<AgentIdentity> ids;
    std::vector<PublicKey> keys;
    for (const auto& agent : world_.agents) {
      if (agent->cloned && agent->number > 0 && std::any_of(ids.begin(), ids.end(), [&](const AgentIdentity& id) { return id.uuid == agent->identity.uuid; })) continue;
      ids.push_back(agent->identity);
      keys.push_back(agent->key.public_key());
    }
    ids.push_back(world_.villain.forger->id);
    keys.push_back(world_.villain.forger->key.public_key());
    std::vector<Admitted> group;
    for (size_t i = 0; i < ids.size(); ++i) {
      IdentityLeaf leaf;
      leaf.act = IdentityLeaf::Act::kEnrolled;
      leaf.wall_ns = static_cast<uint64_t>(clock.WallNanos());
      leaf.uuid = ids[i].uuid;
      leaf.uri = absl::StrCat("spiffe://o-sim/account/", ids[i].account, "/region/", ids[i].region, "/agent/", ids[i].name);
      leaf.identity_key = std::string(View(keys[i]));
      leaf.token_id = "0011223344556677";
      leaf.approver = "spiffe://o-sim/role/governance/root";
      leaf.serial = "0a";
      leaf.not_after_ns = leaf.wall_ns + 864'000'000'000'000;
      group.push_back(ControlItem(leaf.Encode()));
    }
    if (absl::Status s = ledger->Append(group).status(); !s.ok()) return gives_up(s);
  }
  registry = std::make_unique<Registry>();
  if (absl::Status s = registry->Load(*ledger); !s.ok()) return gives_up(s);
  SessionOptions session_options;
  session_options.log_vkey = log_vkey().Encode();
  const Findings find = [this](std::string_view code, Severity, std::string_view subject, std::string_view detail) {
    if (disk.dead()) return;
    world_.Note(name, "finds " + std::string(code) + " of " + std::string(subject) + ": " + std::string(detail.substr(0, 160)));
    findings[std::string(subject)].insert(std::string(code));
  };
  sessions = std::make_unique<Sessions>(session_options, *ledger, *registry, *this, find, clock, *metrics);
  committer = std::make_unique<Committer>(*ledger, *sessions, 4096, clock);
  VerifierOptions verify;
  verify.agent_bytes = 8 << 10;   // small, so that streams are held back
  verifier = std::make_unique<Verifier>(verify, *ledger, *registry, *committer, *sessions, find, clock, *metrics);
  sessions->Attach(*verifier);
  HistoryOptions history_options;
  history_options.dir = disk.dir() + "/data/derived/history";
  history_options.keep = absl::InfiniteDuration();
  history_options.run_records = 24;
  history_options.run_age = absl::Seconds(5);
  absl::StatusOr<std::unique_ptr<History>> followed = History::Open(history_options, *ledger, disk, clock, *metrics);
  if (!followed.ok()) return gives_up(followed.status());
  history = *std::move(followed);
  world_.Note(name, absl::StrCat("starts with ", ledger->head().size, " leaves, history at ", history->indexed_to()));
}

void AggregatorNode::Drop() {
  disk.Die();
  for (Reader& reader : world_.readers) reader.subscription.reset();
  history.reset();
  verifier.reset();
  committer.reset();
  sessions.reset();
  registry.reset();
  ledger.reset();
  metrics.reset();
  for (const std::shared_ptr<Pipe>& pipe : world_.pipes) {
    pipe->server_gone = true;
    pipe->up.clear();
    pipe->server_says = "connection reset";
    pipe->id = 0;
  }
  running = false;
}

void AggregatorNode::Act() {
  const Tick now = clock.Now();
  switch (world_.rng.Below(8)) {
    case 0:
    case 1: verifier->Step(now); break;
    case 2:
    case 3: committer->Step(now); break;
    case 4: sessions->Step(now); break;
    case 5: history->Step(now); break;
    case 6: ledger->Background()->Step(now); break;
    default: history->merger().Step(now); break;
  }
}

void AggregatorNode::Work() {
  const Tick now = clock.Now();
  verifier->Step(now);
  committer->Step(now);
  sessions->Step(now);
  history->Step(now);
  history->merger().Step(now);
}

void AggregatorNode::Send(StreamId stream, std::string response) {
  if (disk.dead()) return;
  const std::shared_ptr<Pipe> pipe = world_.PipeOf(stream);
  if (!pipe) return;
  v1::PushResponse r;
  if (!r.ParseFromString(response)) return world_.Fail("an answer that is no PushResponse");
  const std::string& note = r.has_welcome() ? r.welcome().checkpoint() : r.receipt().checkpoint();
  bool lie = false;
  if (!note.empty()) {
    const absl::StatusOr<Checkpoint> head = Checkpoint::Decode(std::string_view(note).substr(0, note.find("\n\n") + 1));
    if (!head.ok()) return world_.Fail("a head that does not parse: " + note);
    const auto [it, fresh] = shown.emplace(head->size, head->root);
    if (!fresh && it->second != head->root) return world_.Fail(absl::StrCat("two heads of ", head->size, " leaves were shown"));
    if (r.has_receipt() && pipe->shown > 0 && pipe->from < world_.agents.size() && world_.Strikes(Fault::kForkedHead, 0.02)) {
      Checkpoint fork = *head;
      fork.root = Sha256("fork");
      r.mutable_receipt()->set_checkpoint(SignNote(fork.Text(), origin, log_key));
      response = r.SerializeAsString();
      lie = true;
    }
    pipe->shown = head->size;
  }
  if (r.has_refusal()) world_.Note(name, absl::StrCat("refuses ", r.refusal().code(), " to stream ", stream, ": ", r.refusal().detail().substr(0, 140)));
  pipe->unwritten = true;
  pipe->down.push_back({std::move(response), world_.now_ns + static_cast<int64_t>(world_.rng.Below(30'000'000)), lie});
}

void AggregatorNode::Resume(StreamId stream) {
  if (const std::shared_ptr<Pipe> pipe = world_.PipeOf(stream)) pipe->held = false;
}

void AggregatorNode::Close(StreamId stream, const absl::Status& status) {
  if (const std::shared_ptr<Pipe> pipe = world_.PipeOf(stream)) {
    pipe->server_gone = true;
    pipe->server_says = Describe(status);
    pipe->up.clear();
  }
}

}  // namespace orgtrail::sim
