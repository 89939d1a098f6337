#include "tests/sim/world.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "orgtrail/v1/ingest.pb.h"
#include "tests/sim/nodes.h"

namespace orgtrail::sim {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFaultNames[kFaults] = {
    "kill-agent", "power-agent", "stop-agent", "kill-aggregator", "power-aggregator", "cut", "duplicate", "reorder", "disk-full", "disk-error",
    "clock-jump", "replay", "forged-receipt", "forked-head", "forged-batch", "reader-crash", "loss",
    "restore", "delay", "clone", "spool-damage"};

constexpr int64_t kMs = 1'000'000;

std::string ScratchDir() {
  std::string name = fs::exists("/dev/shm") ? "/dev/shm/orgtrail-sim-XXXXXX" : (fs::temp_directory_path() / "orgtrail-sim-XXXXXX").string();
  CHECK(::mkdtemp(name.data()) != nullptr);
  return name;
}

}  // namespace

const char* FaultName(Fault fault) { return kFaultNames[static_cast<int>(fault)]; }

World::World(const Plan& p) : plan(p), rng(p.seed * 2 + 1), chance(p.seed * 2 + 2), scratch_(ScratchDir()) {
  Plant(plan.mutant);
  SetLog(LogFormat::kHuman, static_cast<LogLevel>(99));
  // Which faults this seed knows: about half of them, so that rare meetings of two are not drowned by the others.
  for (int i = 0; i < kFaults; ++i) enabled |= static_cast<uint32_t>(chance.Below(2)) << i;
  enabled &= ~plan.without;
  // A log restored from a backup explains too much to tell it from a lie: those seeds have no liars and no copied agents; and no full
  // disks, for want of which an agent forgets batches that the log had taken and now lacks.
  const auto bit = [](Fault fault) { return 1u << static_cast<int>(fault); };
  if (chance.Below(3) != 0) enabled &= ~bit(Fault::kRestore);
  if (enabled & bit(Fault::kRestore)) enabled &= ~(bit(Fault::kReplay) | bit(Fault::kClone) | bit(Fault::kForgedReceipt) | bit(Fault::kForkedHead) | bit(Fault::kDiskFull));
  forgets_acked_ = (plan.forgets_acked || plan.seed % 2 == 0) && (enabled & bit(Fault::kRestore)) != 0;
  aggregator = std::make_unique<AggregatorNode>(*this, scratch_ + "/aggregator", p.seed * 100);
  fs::create_directories(scratch_ + "/aggregator/data");
  const size_t n = 1 + static_cast<size_t>(rng.Below(3));
  for (size_t i = 0; i < n; ++i) {
    const std::string dir_name = scratch_ + "/agent" + std::to_string(i);
    agents.push_back(std::make_unique<AgentNode>(*this, i, dir_name, p.seed * 100 + i + 1));
    fs::create_directories(dir_name + "/state");
  }
  const AgentIdentity id{Uuid::Random(rng), "o-sim", "666666666666", "eu-west-1", "villain"};
  villain.forger = std::make_unique<Forger>(id, p.seed * 100 + 99, aggregator->clock);
  villain.forger->origin = aggregator->origin;
  for (int i = 0; i < 3; ++i) {
    Reader reader;
    reader.name = "reader " + std::to_string(i);
    reader.request.set_own(i == 2);
    readers.push_back(std::move(reader));
  }
}

World::~World() {
  for (auto& agent : agents) agent->Drop();
  aggregator->Drop();
  agents.clear();
  std::error_code ignored;
  fs::remove_all(scratch_, ignored);
}

void World::Note(std::string_view who, const std::string& what) {
  outcome.history.push_back(absl::StrFormat("%6d %12.6f  %s: %s", outcome.steps, static_cast<double>(now_ns % 1'000'000'000'000'000) / 1e9,
                                            std::string(who), what));
}

void World::Fail(const std::string& why) {
  if (!outcome.why.empty()) return;
  outcome.why = why;
  Note("JUDGE", why);
}

bool World::Strikes(Fault fault, double share) {
  const bool hit = static_cast<double>(chance.Below(1'000'000)) < share * 1e6;
  if (!hit || healing || (enabled & (1u << static_cast<int>(fault))) == 0) return false;
  struck.insert(fault);
  ++outcome.faults[FaultName(fault)];
  return true;
}

std::shared_ptr<Pipe> World::PipeOf(StreamId id) {
  for (const std::shared_ptr<Pipe>& pipe : pipes) {
    if (id != 0 && pipe->id == id) return pipe;
  }
  return nullptr;
}

void World::Connect(AgentNode& agent) {
  if (!aggregator->running) return agent.StreamEnded("no connection");
  absl::StatusOr<StreamId> id = aggregator->sessions->Open(agent.Who());
  if (!id.ok()) return agent.StreamEnded(Describe(id.status()));
  auto pipe = std::make_shared<Pipe>();
  pipe->id = *id;
  pipe->from = agent.number;
  pipe->up.push_back({agent.session->Begin(), now_ns});
  pipes.push_back(pipe);
  agent.pipe = pipe;
  agent.connected_ns = now_ns;
}

template <class F>
void World::In(Machine& machine, F f) {
  if (!machine.running && machine.disk.dead() && now_ns < machine.restart_ns) return;
  std::string why;
  try {
    f();
  } catch (const Died& died) {
    why = died.what();
  }
  if (why.empty() && !machine.disk.dead()) return;
  if (!why.empty() && !machine.disk.dead() && !machine.disk.failed_since_start) Fail(machine.name + " ended itself: " + why);
  Dies(machine, why);
}

void World::Dies(Machine& machine, const std::string& why) {
  const bool power = std::exchange(machine.power, false);
  Note(machine.name, std::string(power ? "loses power" : "is gone") + (why.empty() ? "" : ": " + why.substr(0, 200)));
  ++machine.crashes;
  machine.disk.failing = 0;
  auto* agent = dynamic_cast<AgentNode*>(&machine);
  try {
    if (agent != nullptr) {
      agent->Drop();
    } else {
      aggregator->Drop();
    }
  } catch (const Died& died) {
    Fail(machine.name + " fails while it ends: " + died.what());
  }
  if (power) {
    machine.disk.PowerCut();
    machine.clock.Boot(rng.Bytes(16));
  }
  machine.restart_ns = now_ns + static_cast<int64_t>(rng.Below(rng.Below(4) == 0 ? 20'000 : 500)) * kMs;
  if (agent == nullptr) return Restore();
  if (agent->copy.empty() && Strikes(Fault::kReplay, 0.5)) {
    agent->copy = agent->disk.dir() + ".copy";
    fs::copy(agent->disk.dir(), agent->copy, fs::copy_options::recursive);
    Note(agent->name, "somebody copies its disk");
  } else if (!agent->copy.empty() && !agent->replayed && agent->copy_tail != BatchKey{} && Strikes(Fault::kReplay, 0.5)) {
    fs::remove_all(agent->disk.dir());
    fs::copy(agent->copy, agent->disk.dir(), fs::copy_options::recursive);
    agent->replayed = true;
    if (aggregator->running) {
      const std::optional<AgentHead> head = aggregator->ledger->HeadOf(agent->identity.uuid);
      agent->must_alarm = head && BatchKey{head->epoch, head->batch_seq} > agent->copy_tail;
    }
    Note(agent->name, absl::StrCat("its disk is put back as it was at (", agent->copy_tail.epoch, ", ", agent->copy_tail.batch_seq, ")"));
  }
}

// Somebody copies a machine as it runs and starts the copy beside it: one identity, two hosts, each with applications of its own.
void World::Clone(AgentNode& agent) {
  const size_t n = agents.size();
  const std::string to = scratch_ + "/agent" + std::to_string(n);
  fs::copy(agent.disk.dir(), to, fs::copy_options::recursive);
  auto clone = std::make_unique<AgentNode>(*this, n, to, plan.seed * 100 + agent.number + 1);   // the key of the original
  clone->identity = agent.identity;
  clone->rng = SeededRng(plan.seed * 100 + n + 1);
  clone->lines = agent.lines;
  clone->cloned = agent.cloned = true;
  clone->crashes = 1;
  clone->evidence_needed = 0;
  clone->clock.skew_ns = agent.clock.skew_ns;
  clone->disk.Die();
  Note(agent.name, absl::StrCat("is copied as it runs; the copy is ", clone->name));
  agents.push_back(std::move(clone));
}

// Somebody takes a backup while the aggregator is down; later somebody puts it in place of what is newer, without the anchor.
void World::Restore() {
  const std::string data = aggregator->disk.dir() + "/data";
  if (aggregator->backup.empty() && Strikes(Fault::kRestore, 0.5)) {
    aggregator->backup = aggregator->disk.dir() + ".backup";
    fs::copy(data, aggregator->backup, fs::copy_options::recursive);
    Note("aggregator", "a backup is taken");
  } else if (!aggregator->backup.empty() && !aggregator->restored && Strikes(Fault::kRestore, 0.5)) {
    for (const char* part : {"/ledger", "/derived"}) {
      fs::remove_all(data + part);
      if (fs::exists(aggregator->backup + part)) fs::copy(aggregator->backup + part, data + part, fs::copy_options::recursive);
    }
    aggregator->restored = true;
    Note("aggregator", "the backup is put in place");
  }
}

// ---- the wire ------------------------------------------------------------------------------------------------------------------

// The aggregator's operator takes a batch, logs nothing and hands out a receipt that proves another leaf.
void World::Lie(Pipe& pipe, const std::string& frame) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  const absl::StatusOr<BatchEntry> entry = view.ok() ? BatchEntry::Decode(view->entry) : view.status();
  const absl::StatusOr<std::vector<Hash>> path = aggregator->ledger->Inclusion(0, pipe.shown);
  const absl::StatusOr<Hash> root = aggregator->ledger->Root(pipe.shown);
  if (!entry.ok() || !path.ok() || !root.ok()) return;
  v1::PushResponse response;
  v1::Receipt& receipt = *response.mutable_receipt();
  receipt.set_checkpoint(SignNote(Checkpoint{aggregator->origin, pipe.shown, *root}.Text(), aggregator->origin, aggregator->log_key));
  receipt.set_consistency_from(pipe.shown);
  v1::LeafReceipt& leaf = *receipt.add_leaves();
  leaf.set_epoch(entry->header.epoch);
  leaf.set_batch_seq(entry->header.batch_seq);
  for (const Hash& h : *path) leaf.add_path(std::string(h.view()));
  pipe.down.push_back({response.SerializeAsString(), now_ns, true, {entry->header.epoch, entry->header.batch_seq}});
  Note("aggregator", absl::StrCat("swallows (", entry->header.epoch, ", ", entry->header.batch_seq, ") and forges a receipt"));
}

void World::Deliver(const std::shared_ptr<Pipe>& pipe) {
  AgentNode* agent = pipe->from < agents.size() ? agents[pipe->from].get() : nullptr;
  if (pipe->unwritten && aggregator->running && pipe->id != 0) {
    pipe->unwritten = false;
    In(*aggregator, [&] { aggregator->sessions->Written(pipe->id); });
  }
  if (!pipe->up.empty() && pipe->up.front().due_ns <= now_ns && !pipe->server_gone && !pipe->held && aggregator->running) {
    const bool frame = pipe->up.front().bytes.starts_with("\x12");
    if (pipe->up.size() > 1 && frame && Strikes(Fault::kReorder, 0.01)) std::swap(pipe->up[0].bytes, pipe->up[1].bytes);
    if (frame && Strikes(Fault::kDuplicate, 0.01)) pipe->up.push_front(pipe->up.front());
    if (frame && agent != nullptr && pipe->shown > 0 && !pipe->agent_gone && Strikes(Fault::kForgedReceipt, 0.02)) {
      v1::PushRequest request;
      if (request.ParseFromString(pipe->up.front().bytes)) Lie(*pipe, request.frame());
      pipe->up.pop_front();
      return;
    }
    std::string bytes = pipe->up.front().bytes;
    bool taken = true;
    In(*aggregator, [&] { taken = aggregator->sessions->Take(pipe->id, bytes); });
    if (!pipe->up.empty()) {
      if (taken) {
        pipe->up.pop_front();
      } else if (bytes != pipe->up.front().bytes) {
        Fail("Take kept a message and changed it");
      } else {
        pipe->held = true;
      }
    }
  }
  if (!pipe->down.empty() && (pipe->down.front().due_ns <= now_ns || pipe->agent_gone)) {
    const Message message = std::move(pipe->down.front());
    pipe->down.pop_front();
    if (!pipe->agent_gone && agent != nullptr && agent->running) {
      const BatchKey acked = agent->spool->Facts().acked_through;
      In(*agent, [&] { agent->Receive(message.bytes); });
      if (v1::PushResponse r; r.ParseFromString(message.bytes) && r.has_refusal()) pipe->rewound = true;
      if (message.lie && agent->running && message.swallowed > acked && agent->spool->Facts().acked_through >= message.swallowed) {
        Fail(agent->name + " counts as acknowledged what was swallowed");
      }
      // What is proven already, or was to be sent again, is no longer in question: the agent takes no notice.
      if (message.lie && agent->running && !(message.swallowed != BatchKey{} && (pipe->rewound || message.swallowed <= acked))) {
        if (!agent->reported.contains("LEAF_MISSING") && !agent->reported.contains("LOG_FORKED") &&
            std::none_of(agent->todo.begin(), agent->todo.end(), [](const std::string& c) { return c == "LEAF_MISSING" || c == "LOG_FORKED"; })) {
          Fail(agent->name + " believed a forged answer");
        }
        ++agent->evidence_needed;
      }
      if (agent->running) In(*agent, [&] { agent->CheckAcked(); });
    }
  }
  if (pipe->server_gone && pipe->down.empty() && !pipe->agent_gone) {
    if (agent != nullptr && agent->running) agent->StreamEnded(pipe->server_says);
    pipe->agent_gone = true;
  }
  if (pipe->agent_gone && (pipe->server_gone || pipe->up.empty())) {
    if (aggregator->running && pipe->id != 0) In(*aggregator, [&] { aggregator->sessions->Closed(pipe->id); });
    Forget(std::shared_ptr<Pipe>(pipe));
  }
}

void World::Network(bool all) {
  if (pipes.empty()) return;
  if (all) {
    for (const std::shared_ptr<Pipe>& pipe : std::vector<std::shared_ptr<Pipe>>(pipes)) Deliver(pipe);
    return;
  }
  const std::shared_ptr<Pipe> pipe = pipes[rng.Below(pipes.size())];
  if (!pipe->agent_gone && pipe->from < agents.size() && Strikes(Fault::kCutStream, 0.003)) {
    // What is on its way may still arrive: after the agent's next stream began, too.
    if (rng.Below(2) == 0) pipe->up.resize(rng.Below(pipe->up.size() + 1));
    pipe->down.clear();
    if (Strikes(Fault::kDelay, 0.3)) {   // far behind what the next stream sends
      for (Message& m : pipe->up) m.due_ns += static_cast<int64_t>(chance.Below(20'000)) * kMs;
    }
    for (Message& m : pipe->up) m.due_ns += static_cast<int64_t>(rng.Below(1000)) * kMs;
    if (agents[pipe->from]->running) agents[pipe->from]->StreamEnded("cut");
    pipe->agent_gone = true;
    return;
  }
  // A network that stands still for longer than anybody waits; what follows on the stream waits behind it.
  if (!pipe->up.empty() && Strikes(Fault::kDelay, 0.002)) pipe->up.front().due_ns = now_ns + static_cast<int64_t>(chance.Below(100'000)) * kMs;
  if (!pipe->down.empty() && Strikes(Fault::kDelay, 0.002)) pipe->down.front().due_ns = now_ns + static_cast<int64_t>(chance.Below(100'000)) * kMs;
  Deliver(pipe);
}

// ---- the villain ---------------------------------------------------------------------------------------------------------------

void World::Forge() {
  if (!aggregator->running || (enabled & (1u << static_cast<int>(Fault::kForgedBatch))) == 0) return;
  Forger& forger = *villain.forger;
  const Identity who{Identity::Kind::kAgent, forger.id.org, forger.id.account, forger.id.region, forger.id.name};
  const auto send = [&](const std::string& frame) {
    v1::PushRequest request;
    request.set_frame(frame);
    villain.pipe->up.push_back({request.SerializeAsString(), now_ns});
  };
  if (villain.pipe && villain.pipe->agent_gone) villain.pipe.reset();
  if (!villain.pipe) {
    absl::StatusOr<StreamId> id = aggregator->sessions->Open(Caller{who, "0a", "127.0.0.1:2"});
    if (!id.ok()) return;
    villain.pipe = std::make_shared<Pipe>();
    villain.pipe->id = *id;
    villain.pipe->from = SIZE_MAX;
    v1::PushRequest hello;
    hello.mutable_hello()->set_agent_uuid(std::string(forger.id.uuid.view()));
    villain.pipe->up.push_back({hello.SerializeAsString(), now_ns});
    pipes.push_back(villain.pipe);
    villain.sent = 0;
    return;
  }
  if (villain.sent < villain.frames.size()) return send(villain.frames[villain.sent++]);
  if (forger.state.batch_seq + 4 >= limits::kTreeSlots) return;
  if (villain.frames.empty() || !Strikes(Fault::kForgedBatch, 0.5)) {
    villain.frames.push_back(villain.frames.empty() ? forger.Open() : forger.Batch({TestRecord(9'000'000 + villain.frames.size(), forger.id.account, forger.id.region, absl::FromUnixNanos(now_ns))}));
    return;
  }
  // A second set of the same keys signs what must not be believed.
  Forger evil(forger.id, plan.seed * 100 + 99, aggregator->clock);
  evil.origin = forger.origin;
  evil.state = forger.state;
  Forger::Odd odd;
  switch (rng.Below(6)) {
    case 0:
    case 1: odd.header = [](BatchHeader& h) { h.prev_hash = Sha256("another"); }; break;
    case 2: odd.header = [](BatchHeader& h) { h.key_slot -= h.key_slot > 0 ? 1 : 0; }; break;
    case 3: odd.header = [](BatchHeader& h) { h.first_seq += 7, h.last_seq += 7; }; break;
    case 4: odd.zero_signature = true; break;
    default: odd.header = [](BatchHeader& h) { h.cum_events += 5; }; break;
  }
  const std::string frame = evil.Batch({TestRecord(9'900'000 + villain.evil.size(), forger.id.account, forger.id.region, absl::FromUnixNanos(now_ns))}, odd);
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  CHECK_OK(view.status());
  villain.evil.insert(LeafHash(view->entry));
  send(frame);
}

// ---- readers -------------------------------------------------------------------------------------------------------------------

void World::Read(Reader& reader) {
  if (!aggregator->running) return;
  if (reader.subscription && Strikes(Fault::kReaderCrash, 0.05)) reader.subscription.reset();
  if (!reader.subscription) {
    v1::SubscribeRequest request = reader.request;
    if (reader.cursor.empty()) {
      request.set_start(true);
    } else {
      request.set_cursor(reader.cursor);
    }
    request.set_max(healing ? 0 : rng.Below(30));
    absl::StatusOr<std::unique_ptr<Subscription>> opened =
        Subscription::Open(Identity{Identity::Kind::kAuditor, "o-sim", "", "", "ann"}, request, *aggregator->ledger, "mac key", aggregator->clock);
    if (!opened.ok()) return Fail(reader.name + " cannot go on where it was: " + Describe(opened.status()));
    reader.subscription = *std::move(opened);
  }
  v1::FeedMessage message;
  const absl::StatusOr<Subscription::Got> got = reader.subscription->Next(&message);
  if (!got.ok()) {
    reader.subscription.reset();
    return Fail(reader.name + " cannot read: " + Describe(got.status()));
  }
  for (const v1::Event& event : message.events()) reader.got.push_back(event.record());
  if (!message.cursor().empty()) reader.cursor = message.cursor();
  if (*got == Subscription::Got::kEnd) reader.subscription.reset();
}

// ---- time and chance -----------------------------------------------------------------------------------------------------------

void World::Faults() {
  const auto of = [&](const char*) -> AgentNode& { return *agents[chance.Below(agents.size())]; };
  AgentNode& agent = of("agent");
  const auto dies = [&](Machine& machine, bool power) {
    if (!machine.running) return;
    machine.power = power;
    machine.disk.dies_after = static_cast<int>(chance.Below(6));
  };
  if (Strikes(Fault::kKillAgent, 0.003)) dies(agent, false);
  if (Strikes(Fault::kCutAgentPower, 0.003)) dies(agent, true);
  if (Strikes(Fault::kKillAggregator, 0.002)) dies(*aggregator, false);
  if (Strikes(Fault::kCutAggregatorPower, 0.002)) dies(*aggregator, true);
  if (Strikes(Fault::kStopAgent, 0.001) && agent.running) {
    Note(agent.name, "is told to stop");
    In(agent, [&] { agent.Stop(); });
    if (agent.running) {
      agent.Drop();
      agent.restart_ns = now_ns + static_cast<int64_t>(rng.Below(500)) * kMs;
    }
  }
  Machine& disk_of = chance.Below(2) == 0 ? static_cast<Machine&>(agent) : *aggregator;
  if (Strikes(Fault::kDiskFull, 0.002)) {
    disk_of.disk.full = true;
    Note(disk_of.name, "its disk is full");
  } else if (disk_of.disk.full && chance.Below(50) == 0) {
    disk_of.disk.full = false;
    Note(disk_of.name, "its disk has room again");
  }
  if (Strikes(Fault::kDiskError, 0.002) && disk_of.running) {
    disk_of.disk.failing = 0.2;
    Note(disk_of.name, "its disk fails");
  }
  if (agents.size() < 5 && !agent.cloned && !agent.replayed && agent.copy.empty() && agent.running && Strikes(Fault::kClone, 0.001)) Clone(agent);
  if (Strikes(Fault::kClockJump, 0.001)) {
    disk_of.clock.skew_ns += static_cast<int64_t>(chance.Below(1'200'000)) * kMs - 600'000 * kMs;
    Note(disk_of.name, absl::StrCat("its clock is wrong by ", disk_of.clock.skew_ns / kMs, " ms"));
  }
  if (agent.running && !agent.disk.dead() && Strikes(Fault::kSpoolDamage, 0.003)) agent.Rot(chance, /*beyond_mending=*/chance.Below(3) == 0);
  if (agent.running && Strikes(Fault::kLoss, 0.002)) {
    const uint32_t n = 1 + static_cast<uint32_t>(chance.Below(5));
    agent.lost += n;
    In(agent, [&] { agent.pipeline->Lost("ring", "overrun", n, "simulated"); });
  }
}

void World::Step() {
  ++outcome.steps;
  const uint64_t pace = rng.Below(1000);
  now_ns += static_cast<int64_t>(pace < 700 ? rng.Below(3 * kMs) : pace < 960 ? rng.Below(50 * kMs) : pace < 998 ? rng.Below(500 * kMs) : rng.Below(12'000 * kMs));
  Faults();
  const uint64_t who = rng.Below(12);
  if (who < 5) {
    AgentNode& agent = *agents[rng.Below(agents.size())];
    if (agent.running) {
      In(agent, [&] { agent.Act(); });
    } else if (now_ns >= agent.restart_ns) {
      In(agent, [&] { agent.Start(); });
    }
  } else if (who < 8) {
    if (aggregator->running) {
      In(*aggregator, [&] { aggregator->Act(); });
    } else if (now_ns >= aggregator->restart_ns) {
      In(*aggregator, [&] { aggregator->Start(); });
    }
  } else if (who < 11) {
    Network(false);
  } else if (rng.Below(4) == 0) {
    Forge();
  } else if (aggregator->running) {
    In(*aggregator, [&] { Read(readers[rng.Below(readers.size())]); });
  }
}

bool World::Quiet() {
  if (!aggregator->running) return false;
  for (const auto& agent : agents) {
    if (!agent->running || !agent->Drained() || agent->AlarmOwed()) return false;
  }
  const uint64_t size = aggregator->ledger->head().size;
  if (aggregator->committer->queued() > 0 || aggregator->history->indexed_to() < size) return false;
  return std::all_of(readers.begin(), readers.end(), [&](const Reader& r) { return r.subscription && r.subscription->at().leaf >= aggregator->ledger->head().size; });
}

// No more faults: everything restarts, and all that was captured must arrive.
void World::Heal() {
  healing = true;
  Note("world", "heals");
  for (auto& agent : agents) {
    agent->restart_ns = 0;
    agent->disk.full = false;
    agent->disk.failing = 0;
    agent->disk.dies_after = -1;
  }
  aggregator->restart_ns = 0;
  aggregator->disk.full = false;
  aggregator->disk.failing = 0;
  aggregator->disk.dies_after = -1;
  for (int round = 0; round < 6000 && outcome.ok(); ++round) {
    now_ns += round < 500 ? 7 * kMs : 200 * kMs;
    if (aggregator->running) {
      In(*aggregator, [&] { aggregator->Work(); });
    } else {
      In(*aggregator, [&] { aggregator->Start(); });
    }
    Network(true);
    for (auto& agent : agents) {
      if (agent->running) {
        In(*agent, [&] { agent->Work(); });
      } else {
        In(*agent, [&] { agent->Start(); });
      }
    }
    for (Reader& reader : readers) {
      if (aggregator->running) In(*aggregator, [&] { Read(reader); });
    }
    if (Quiet()) return;
  }
  if (!outcome.ok()) return;
  std::string why = "it does not come to rest:";
  for (const auto& agent : agents) {
    if (agent->running && !agent->Drained()) {
      const UplinkFacts facts = agent->session->Facts();
      why += absl::StrCat(" ", agent->name, " read ", agent->read, " of ", agent->lines.size(), ", ", agent->spool->Facts().unacked_batches,
                          " batches unacked, acked (", facts.acked.epoch, ", ", facts.acked.batch_seq, "), sent (", facts.sent.epoch, ", ",
                          facts.sent.batch_seq, ");");
    }
    if (!agent->running) why += " " + agent->name + " is not running;";
    if (agent->AlarmOwed()) why += " " + agent->name + " runs on an old copy of its disk and nobody said so;";
  }
  if (!aggregator->running) {
    why += " the aggregator is not running";
  } else {
    why += absl::StrCat(" log ", aggregator->ledger->head().size, ", history ", aggregator->history->indexed_to());
  }
  Fail(why);
}

Outcome World::Go() {
  In(*aggregator, [&] { aggregator->Start(); });
  for (auto& agent : agents) In(*agent, [&] { agent->Start(); });
  for (int i = 0; i < plan.steps && outcome.ok(); ++i) Step();
  if (outcome.ok()) Heal();
  if (outcome.ok()) Judge();
  outcome.digest = Digest();
  return std::move(outcome);
}

// What happened, and where chance, time and the log stand after it: a single draw more or less is seen.
std::string World::Digest() {
  std::string all;
  for (const std::string& line : outcome.history) {
    std::string text = line + "\n";
    for (size_t at; (at = text.find(scratch_)) != std::string::npos;) text.erase(at, scratch_.size());
    all += text;
  }
  all += absl::StrCat(now_ns, " ", rng.U64(), " ", chance.U64());
  if (aggregator->ledger) all += aggregator->ledger->head().note;
  for (const auto& agent : agents) all += absl::StrCat(" ", agent->disk.writes, " ", agent->rng.U64());
  return Hex(Sha256(all).view());
}

Outcome Run(const Plan& plan) {
  World world(plan);
  return world.Go();
}

}  // namespace orgtrail::sim
