#include "aggregator/verify/lane.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr absl::Duration kHoldStep = absl::Milliseconds(2);     // how often a full committer is tried again
constexpr absl::Duration kForgetAfter = absl::Minutes(10);      // agents that said nothing for so long are read again from the ledger
constexpr size_t kAgentsKept = 16384;                           // 4 KiB of keys each

ChainState StateOf(const std::optional<AgentHead>& head, const Uuid& uuid) {
  ChainState s;
  s.uuid = uuid;
  if (!head) return s;
  s.epoch = head->epoch;
  s.batch_seq = head->batch_seq;
  s.last_seq = head->last_seq;
  s.cum_events = head->cum_events;
  s.cum_lost = head->cum_lost;
  s.leaf = head->leaf;
  s.boot_id = head->boot_id;
  s.boot_close_ns = head->boot_close_ns;
  s.seen_size = head->seen_size;
  s.policy_version = head->policy_version;
  s.keytree_root = head->keytree_root;
  s.tree_base = head->tree_base;
  s.closed = head->closed;
  return s;
}

}  // namespace

Verifier::Lane::Lane(std::string name, Shared shared)
    : shared_(shared),
      batches_(shared.metrics.GetCounter("orgtrail_verify_batches_total", "Batches that passed every check.")),
      records_(shared.metrics.GetCounter("orgtrail_verify_events_total", "Records in batches that passed every check.")),
      repeats_(shared.metrics.GetCounter("orgtrail_verify_repeats_total",
                                         "Batches that were logged before; many mean unstable connections.")),
      seconds_(shared.metrics.GetHistogram("orgtrail_verify_seconds", "Time to check one batch.", Metrics::Latency())),
      worker_(std::move(name), *this, shared.clock) {}

bool Verifier::Lane::TryPush(Submission& s) {
  const Tick now = shared_.clock.Now();
  const bool pushed = inbox_.With([&](std::deque<Waiting>& inbox) {
    if (inbox.size() >= kInbox) return false;
    inbox.push_back({std::move(s), now});
    return true;
  });
  if (pushed) worker_.Poke();
  return pushed;
}

Tick Verifier::Lane::Step(Tick now) {
  const int64_t begun = CpuNanos();
  const Tick next = Work(now);
  busy_ns_ += CpuNanos() - begun;
  return next;
}

int64_t Verifier::Lane::CpuNanos() const { return shared_.options.cpu_ns != nullptr ? shared_.options.cpu_ns() : shared_.clock.Now().ns; }

Tick Verifier::Lane::Work(Tick now) {
  if (!Flush()) return now + kHoldStep;
  if (work_.empty()) {
    inbox_.With([&](std::deque<Waiting>& inbox) { work_.swap(inbox); });
    Forget(now);
  }
  // Some at a time, so that a stop does not wait for a long queue.
  for (int i = 0; i < 64 && !work_.empty(); ++i) {
    if (!Flush() || shared_.load.Full()) return now + kHoldStep;
    Job job;
    job.in = std::move(work_.front().in);
    job.now = shared_.clock.Now();
    waited_ns_ = std::max(waited_ns_.load(), (job.now - work_.front().since) / absl::Nanoseconds(1));
    work_.pop_front();
    const Uuid uuid = job.in.uuid;
    const size_t bytes = job.in.frame.size();
    Check(job);
    const absl::Duration took = shared_.clock.Now() - job.now;
    seconds_.Observe(absl::ToDoubleSeconds(took));
    for (const StreamId stream : shared_.load.Leave(uuid, bytes)) shared_.verdicts.Room(stream);
  }
  if (!Flush()) return now + kHoldStep;
  return work_.empty() && inbox_.Peek([](const std::deque<Waiting>& inbox) { return inbox.empty(); }) ? Tick::Never() : now;
}

void Verifier::Lane::Check(Job& job) {
  if (!Parse(job) || !Identify(job) || !Position(job) || !Authenticate(job)) return;
  auto leaf = std::make_shared<Leaf>();
  if (!Recount(job, *leaf) || !Continues(job)) return;
  Observe(job, leaf->events.rows);
  Accept(job, std::move(leaf));
}

bool Verifier::Lane::Parse(Job& job) {
  absl::StatusOr<FrameView> view = FrameView::Decode(job.in.frame);
  if (!view.ok()) return RefuseStatus(job, view.status(), "FRAME_MALFORMED");
  job.view = *view;
  absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(job.view.entry);
  if (!entry.ok()) return RefuseStatus(job, entry.status(), "FRAME_MALFORMED");
  job.entry = *std::move(entry);
  job.leaf = LeafHash(job.view.entry);
  return true;
}

bool Verifier::Lane::Identify(Job& job) {
  const Identity& caller = job.in.caller->identity;
  const BatchHeader& h = job.header();
  const std::optional<AgentIdentityRecord> record = shared_.registry.Agent(h.agent_uuid);
  std::string why;
  if (caller.kind != Identity::Kind::kAgent) {
    why = "only an agent's certificate brings batches";
  } else if (h.agent_uuid != job.in.uuid) {
    why = "the batch is of uuid " + h.agent_uuid.ToString() + ", the stream said " + job.in.uuid.ToString();
  } else if (h.org != caller.org || h.account != caller.account || h.region != caller.region || h.agent != caller.name) {
    why = "the batch says " + h.org + " " + h.account + "/" + h.region + "/" + h.agent + ", the certificate " + caller.ToUri();
  } else if (!record || record->uri != caller.ToUri()) {
    why = "uuid " + h.agent_uuid.ToString() + " is not enrolled as " + caller.ToUri();
  }
  if (!why.empty()) {
    Find(job, "IDENTITY_MISMATCH", Severity::kPage, why);
    return Refuse(job, "IDENTITY_MISMATCH", std::move(why), true);
  }
  if (record->revoked || record->retired) {
    return Refuse(job, "AUTH_REVOKED", record->revoked ? "this agent was revoked: enrol it again" : "this agent was retired: enrol it again",
                  true);
  }
  job.identity = *record;
  job.agent = &AgentOf(job.in.uuid, job.now);
  return true;
}

// Where the batch stands in its agent's chain: known already, next, or ahead.
bool Verifier::Lane::Position(Job& job) {
  Agent& agent = *job.agent;
  const BatchHeader& h = job.header();
  const auto is_logged = [&](const InFlight& f) { return shared_.ledger.FindLeaf(f.leaf, f.size).has_value(); };
  while (!agent.in_flight.empty() && is_logged(agent.in_flight.front())) agent.in_flight.pop_front();
  HoldLess(job);
  const bool opens = h.kind == BatchKind::kEpochOpen;
  if (opens != (h.batch_seq == 0)) return Refuse(job, "BOUNDS", "batch 0 opens an epoch, and only batch 0");
  if (!agent.head) return opens || Expect(job);

  const AgentHead& head = *agent.head;
  if (head.retired && h.epoch > head.epoch) {  // its last words stand, also before the registry has heard of them
    return Refuse(job, "AUTH_REVOKED", "this agent was retired: enrol it again", true);
  }
  if (agent.quarantined) return PositionApart(job);
  if (h.epoch < head.epoch || (h.epoch == head.epoch && h.batch_seq <= head.batch_seq)) {
    for (const InFlight& f : agent.in_flight) {
      if (f.epoch != h.epoch || f.batch_seq != h.batch_seq) continue;
      if (f.leaf != job.leaf) return Clash(job, UINT64_MAX);
      Repeat(job, std::nullopt);
      return false;
    }
    const std::optional<uint64_t> index = shared_.ledger.Find({job.in.uuid, h.epoch, h.batch_seq});
    if (!index) return Clash(job, UINT64_MAX);
    const absl::StatusOr<Hash> logged = shared_.ledger.LeafHashAt(*index);
    if (!logged.ok()) return Refuse(job, "LEDGER_READ", Describe(logged.status()));
    if (*logged != job.leaf) return Clash(job, *index);
    Repeat(job, *index);
    return false;
  }
  if (h.epoch > head.epoch ? !opens : h.batch_seq != head.batch_seq + 1) return Expect(job);
  // Next by its number alone: it continues another leaf, under keys that did not come yet.
  if (h.prev_hash != head.leaf && OfUnseenBranch(job)) return Expect(job, Of::kBranch);
  Rewound(job);
  return true;
}

// Of a tree that lies in the log only the next keys are held.
void Verifier::Lane::HoldLess(Job& job) {
  Agent& agent = *job.agent;
  if (agent.quarantined || !agent.head || agent.tree == nullptr || !agent.tree->whole()) return;
  const SlotKeys& tree = *agent.tree;
  std::optional<uint64_t> carrier = tree.carrier;
  if (!carrier) carrier = shared_.ledger.Find({job.in.uuid, tree.epoch, tree.tree_base == 0 ? 0 : tree.tree_base - 1});
  if (!carrier || agent.head->epoch != tree.epoch || agent.head->batch_seq + 1 < tree.tree_base) return;
  agent.tree = tree.From(static_cast<uint32_t>(agent.head->batch_seq + 1 - tree.tree_base), *carrier);
}

// Whether its keys are of a branch whose beginning is not here: that comes first, and says more than "no such key".
bool Verifier::Lane::OfUnseenBranch(Job& job) {
  const BatchHeader& h = job.header();
  if (h.kind == BatchKind::kEpochOpen || h.key_slot > h.batch_seq) return false;
  const std::shared_ptr<const SlotKeys> tree = TreeOf(*job.agent, job.in.uuid, h.epoch, h.batch_seq - h.key_slot);
  return tree == nullptr || tree->root != h.keytree_root;
}

// After a contradiction the chain is a tree: two processes write as one agent, each of them in order. A batch continues whatever leaf
// its prev_hash names, and an epoch may be opened whatever its number, so that none of them waits for the other and nothing is lost.
bool Verifier::Lane::PositionApart(Job& job) {
  Agent& agent = *job.agent;
  for (const InFlight& f : agent.in_flight) {
    if (f.leaf != job.leaf) continue;
    Repeat(job, std::nullopt);
    return false;
  }
  if (const std::optional<uint64_t> index = shared_.ledger.FindLeaf(job.leaf, job.identity.enrolled_leaf)) {
    Repeat(job, *index);
    return false;
  }
  if (job.header().kind != BatchKind::kEpochOpen && agent.branches.Of(shared_.ledger, job.header()) == nullptr) return Expect(job, Of::kBranch);
  Rewound(job);
  return true;
}

// A batch at a place the chain has passed, with another content than was logged there, or with nothing logged there. Only its
// signature decides whether that is the agent's doing.
bool Verifier::Lane::Clash(Job& job, uint64_t related) {
  const BatchHeader& h = job.header();
  const AgentHead& head = *job.agent->head;
  if (OfUnseenBranch(job)) return Expect(job, Of::kBranch);
  Rewound(job);
  if (!Spend(job)) return false;
  if (absl::Status s = CheckSignatures(job); !s.ok()) return RefuseStatus(job, s, "SIG_INVALID");
  const bool same_place = related != UINT64_MAX ||
                          std::any_of(job.agent->in_flight.begin(), job.agent->in_flight.end(), [&](const InFlight& f) {
                            return f.epoch == h.epoch && f.batch_seq == h.batch_seq;
                          });
  if (same_place) {
    return Conflict(job, "EQUIVOCATION",
                    Where(h.epoch, h.batch_seq) + " was signed twice with different content. A restored snapshot of the machine does "
                    "that; so does a stolen key",
                    related);
  }
  // Closed just now in an epoch that is over: two processes write as one agent.
  const bool live = static_cast<int64_t>(h.wall_close_ns) > shared_.clock.WallNanos() - absl::ToInt64Nanoseconds(absl::Minutes(5));
  return Conflict(job, live ? "EPOCH_CONFLICT" : "EPOCH_STALE",
                  Where(h.epoch, h.batch_seq) + " comes after the chain went on to " + Where(head.epoch, head.batch_seq) +
                      (live ? ": two hosts run this agent's identity" : ": an older copy of the spool was started"),
                  head.leaf_index);
}

absl::Status Verifier::Lane::CheckSignatures(Job& job) {
  const BatchHeader& h = job.header();
  const BatchEntry& entry = job.entry;
  if (h.TwoSignatures()) {
    RETURN_IF_ERROR(VerifySignature(job.identity.identity_key, kEpochLabel, entry.header_bytes, entry.identity_signature));
  }
  std::shared_ptr<const SlotKeys> tree;
  if (h.kind == BatchKind::kEpochOpen) {
    job.opening.emplace();
    RETURN_IF_ERROR(CheckExtension(h, job.view.extension, &*job.opening, nullptr));
    ASSIGN_OR_RETURN(tree, SlotKeys::FromExtension(h, job.view.extension));
    job.next_tree = tree;
    if (h.key_slot != 0) return absl::InvalidArgumentError("SLOT_UNKNOWN an epoch opens with slot 0");
  } else {
    if (h.key_slot > h.batch_seq) return absl::InvalidArgumentError("SLOT_UNKNOWN the slot lies before the epoch");
    const Branch* branch = job.agent->quarantined ? job.agent->branches.Of(shared_.ledger, h) : nullptr;
    tree = branch != nullptr ? branch->tree : TreeOf(*job.agent, job.in.uuid, h.epoch, h.batch_seq - h.key_slot);
    if (tree == nullptr || tree->root != h.keytree_root || h.key_slot >= tree->slots) {
      return absl::InvalidArgumentError("SLOT_UNKNOWN no key tree of this epoch has this slot");
    }
    if (tree->Of(h.key_slot) == nullptr) {
      absl::StatusOr<std::shared_ptr<const SlotKeys>> whole = tree->Again(shared_.ledger);
      if (!whole.ok()) return absl::UnavailableError("LEDGER_READ " + Describe(whole.status()));
      if (job.agent->tree == tree) job.agent->tree = (*whole)->From(h.key_slot, *tree->carrier);
      tree = *std::move(whole);
    }
  }
  return VerifySignature(*tree->Of(h.key_slot), kBatchLabel, entry.header_bytes, entry.slot_signature);
}

bool Verifier::Lane::Authenticate(Job& job) {
  if (!Spend(job)) return false;
  if (absl::Status s = CheckSignatures(job); !s.ok()) return RefuseStatus(job, s, "SIG_INVALID");
  if (job.opening && job.opening->origin != shared_.ledger.origin()) {
    return Refuse(job, "ORIGIN_MISMATCH",
                  "this epoch belongs to the log " + job.opening->origin + ", this is " + shared_.ledger.origin() +
                      ": the agent opens a new epoch (handover) to move here",
                  true);
  }
  return true;
}

bool Verifier::Lane::Recount(Job& job, Leaf& leaf) {
  const BatchHeader& h = job.header();
  if (h.kind == BatchKind::kKeytreeRoll) {
    absl::StatusOr<std::shared_ptr<const SlotKeys>> next = SlotKeys::FromExtension(h, job.view.extension);
    if (!next.ok()) return RefuseStatus(job, next.status(), "FRAME_MALFORMED");
    job.next_tree = *std::move(next);
  }
  if (h.kind != BatchKind::kEpochOpen) {
    if (absl::Status s = CheckExtension(h, job.view.extension, nullptr, nullptr); !s.ok()) return RefuseStatus(job, s, "ROOT_MISMATCH");
  }
  if (job.view.bodies_gone) {
    // What is signed is checked like any batch; its root and count cannot be. Refused, the chain would end here for ever.
    if (h.n_events == 0) return RefuseStatus(job, absl::InvalidArgumentError("FRAME_MALFORMED bodies missing of a batch that has none"), "");
    // Only the log lets bodies expire, and says so in a leaf; what an agent's disk damaged is corrupt.
    if (*job.view.bodies_gone != TombstoneReason::kCorrupt) return RefuseStatus(job, absl::InvalidArgumentError("FRAME_MALFORMED bodies that an agent calls expired or redacted"), "");
    job.bodies_gone = true;
    leaf.events = GoneEvents(h, *job.view.bodies_gone);
    return true;
  }
  absl::StatusOr<Events> events = InflateFrame(job.view, zstd_);
  if (!events.ok()) return RefuseStatus(job, events.status(), "FRAME_MALFORMED");
  if (std::any_of(events->rows.begin(), events->rows.end(), [](const Row& r) { return r.tombstone && r.reason != TombstoneReason::kCorrupt; })) {
    return RefuseStatus(job, absl::InvalidArgumentError("FRAME_MALFORMED bodies that an agent calls expired or redacted"), "");
  }
  const RowHashes hashes = HashRows(job.view.batch_key, events->rows);
  if (absl::Status s = CheckRows(h, events->rows, hashes); !s.ok()) return RefuseStatus(job, s, "ROOT_MISMATCH");
  leaf.events = *std::move(events);
  return true;
}

bool Verifier::Lane::Continues(Job& job) {
  Agent& agent = *job.agent;
  const absl::Status link = CheckLink(StateOf(agent.head, job.in.uuid), job.header(), job.opening ? &*job.opening : nullptr);
  if (agent.quarantined) {
    // A branch in quarantine need not fit its counters: it is kept, signed as it is, and apart.
    job.flags |= kLeafQuarantined;
    return true;
  }
  if (link.ok()) return true;
  const std::string code = CodeOf(link, "CHAIN_EXPECT");
  if (code == "CHAIN_EXPECT") return Expect(job);
  if (code == "EPOCH_CONFLICT" || code == "EPOCH_STALE" || code == "MONO_ROLLBACK") {
    return Conflict(job, code, std::string(ToStd(link.message())).substr(std::min(code.size() + 1, link.message().size())),
                    agent.head ? agent.head->leaf_index : UINT64_MAX);
  }
  return RefuseStatus(job, link, "BOUNDS");
}

AgentHead Verifier::Lane::HeadAfter(const Job& job) const {
  const BatchHeader& h = job.header();
  AgentHead next = job.agent->head.value_or(AgentHead{});
  next.uuid = h.agent_uuid;
  next.epoch = h.epoch;
  next.batch_seq = h.batch_seq;
  next.last_seq = h.last_seq;
  next.leaf = job.leaf;
  next.cum_events = h.cum_events;
  next.cum_lost = h.cum_lost;
  next.boot_id = h.boot_id;
  next.boot_close_ns = h.boot_close_ns;
  next.wall_close_ns = h.wall_close_ns;
  next.seen_size = h.seen_size;
  next.policy_version = h.policy_version;
  if (job.next_tree) {
    next.keytree_root = job.next_tree->root;
    next.tree_base = job.next_tree->tree_base;
  }
  if (job.opening && job.opening->reason == EpochReason::kUnclean) ++next.unclean_epochs;
  if (job.bodies_gone) next.bodies_missing += h.n_events;
  next.closed = h.kind == BatchKind::kEpochClose;
  next.retired = next.closed && (h.flags & kBatchRetired) != 0;
  next.logged_ns = shared_.clock.WallNanos();
  return next;
}

void Verifier::Lane::Accept(Job& job, std::shared_ptr<Leaf> leaf) {
  Agent& agent = *job.agent;
  const BatchHeader& h = job.header();
  Admitted item;
  item.batch = {job.in.uuid, h.epoch, h.batch_seq};
  item.from = job.in.from;
  if (agent.quarantined) {
    item.head = agent.head;   // stays where the contradiction found it
    agent.branches.Grow(shared_.ledger, h, job.leaf, job.next_tree, job.in.from);
  } else {
    item.head = HeadAfter(job);
    agent.head = item.head;
    if (job.next_tree) agent.tree = job.next_tree;
  }
  agent.in_flight.push_back({h.epoch, h.batch_seq, job.leaf, shared_.ledger.head().size});

  leaf->hash = job.leaf;
  leaf->flags = job.flags;
  leaf->is_batch = true;
  leaf->header = h;
  leaf->bytes = std::move(job.in.frame);   // the views of job end here
  admitter_.Admit(job.identity.carries, *leaf);
  batches_.Add();
  records_.Add(h.n_events);
  const size_t bytes = leaf->bytes.size() + leaf->events.storage.size();
  item.leaf = std::move(leaf);
  Send(std::move(item), bytes);
}

// Whether the log has this leaf without good bodies: as a look through the store found, or because they never came.
bool Verifier::Lane::IsMissing(Job& job, uint64_t index) {
  MissingBodies& missing = *shared_.options.missing;
  if (missing.Wants(index)) return true;
  if (job.view.bodies_gone || !job.agent->head || job.agent->head->bodies_missing == 0) return false;
  const absl::StatusOr<RawLeaf> stored = shared_.ledger.ReadRaw(index);
  const absl::StatusOr<FrameView> frame = stored.ok() ? FrameView::Decode(stored->bytes) : stored.status();
  if (!frame.ok() || frame->bodies_gone != TombstoneReason::kCorrupt) return false;
  return missing.Add({index, {job.in.uuid, job.header().epoch, job.header().batch_seq}, job.leaf}, MissingBodies::Why::kBodiless) && missing.Wants(index);
}

// A repeat is what is logged up to its entry; what it brings behind that counts only when it leads to what the entry signed.
void Verifier::Lane::TakeBodies(Job& job, uint64_t index) {
  MissingBodies& missing = *shared_.options.missing;
  const BatchHeader& h = job.header();
  if (job.view.bodies_gone) return missing.HasNot(index);
  absl::Status sound = CheckExtension(h, job.view.extension, nullptr, nullptr);
  if (sound.ok()) {
    absl::StatusOr<Events> events = InflateFrame(job.view, zstd_);
    sound = events.ok() ? CheckRows(h, events->rows, HashRows(job.view.batch_key, events->rows)) : events.status();
  }
  if (!sound.ok()) {
    Find(job, "ROOT_MISMATCH", Severity::kWarn, Where(h.epoch, h.batch_seq) + " came once more, with other records than were signed: " + Describe(sound));
    return missing.HasNot(index);
  }
  missing.Came(index, std::move(job.in.frame), job.now);
}

void Verifier::Lane::Repeat(Job& job, std::optional<uint64_t> index) {
  repeats_.Add();
  Rewound(job);
  const bool is_missing = index && shared_.options.missing != nullptr && IsMissing(job, *index);
  Admitted item;
  item.duplicate_of = index;
  item.repeats = job.leaf;
  item.from = job.in.from;
  item.batch = {job.in.uuid, job.header().epoch, job.header().batch_seq};
  Send(std::move(item), 0);
  if (is_missing) TakeBodies(job, *index);
}

void Verifier::Lane::Send(Admitted item, size_t bytes) {
  if (item.head || item.leaf == nullptr) shared_.load.Submitted(item.batch.uuid, bytes);
  out_.push_back(std::move(item));
}

bool Verifier::Lane::Flush() {
  while (!out_.empty()) {
    const absl::Status sent = shared_.committer.Submit(out_.front());
    if (absl::IsResourceExhausted(sent)) return false;
    CHECK_OK(sent);   // sizes were checked: a frame by FrameView, evidence where it is made
    out_.pop_front();
  }
  return true;
}

Verifier::Lane::Agent& Verifier::Lane::AgentOf(const Uuid& uuid, Tick now) {
  auto [it, fresh] = agents_.try_emplace(uuid);
  Agent& agent = it->second;
  agent.used = now;
  if (fresh) {
    agent.head = shared_.ledger.HeadOf(uuid);
    agent.quarantined = agent.head && agent.head->quarantined;
    agent.tokens = shared_.options.checks_per_second;
    agent.tokens_at = now;
  }
  return agent;
}

std::shared_ptr<const SlotKeys> Verifier::Lane::TreeOf(Agent& agent, const Uuid& uuid, uint64_t epoch, uint64_t tree_base) {
  if (agent.tree && agent.tree->epoch == epoch && agent.tree->tree_base == tree_base) return agent.tree;
  absl::StatusOr<std::shared_ptr<const SlotKeys>> loaded = SlotKeys::Load(shared_.ledger, uuid, epoch, tree_base);
  if (!loaded.ok()) return nullptr;
  if (agent.head && agent.head->epoch == epoch && agent.head->tree_base == tree_base) agent.tree = *loaded;
  return *loaded;
}

void Verifier::Lane::Forget(Tick now) {
  if (agents_.size() <= kAgentsKept) return;
  std::erase_if(agents_, [&](auto& item) {
    const Agent& a = item.second;
    return now - a.used > kForgetAfter &&
           (a.in_flight.empty() || shared_.ledger.FindLeaf(a.in_flight.back().leaf, a.in_flight.back().size));
  });
}

}  // namespace orgtrail
