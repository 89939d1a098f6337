// Forger: an agent that signs whatever a test wants it to: headers with impossible counters, the same slot twice, other labels.
// Two forgers of one seed hold the same keys, as a restored snapshot does.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/merkle/tree.h"
#include "common/seal/sealer.h"
#include "tests/support/ledger_builder.h"

namespace orgtrail {

struct OddBatch {
  std::function<void(BatchHeader&)> header;                                      // before signing
  std::function<void(EpochOpening&)> opening;
  std::function<void(std::string& entry)> entry;      // after signing
  std::string_view label = kBatchLabel;
  bool zero_signature = false;
  bool dry = false;                                   // the state does not move on
  EventClass event_class = EventClass::kManagement;
  Seen seen;
};

class Forger {
 public:
  Forger(AgentIdentity identity, uint64_t seed, const Clock& clock) : id(std::move(identity)), rng(seed), clock_(clock) {
    key = SigningKey::FromSeed(rng.Bytes(32));
    tree = std::make_unique<KeyTree>(rng);
    while (!tree->Grow(1024)) {
    }
    state.uuid = id.uuid;
  }

  using Odd = OddBatch;

  BatchHeader Next(BatchKind kind) {
    BatchHeader h;
    h.kind = kind;
    h.agent_uuid = id.uuid;
    h.org = id.org;
    h.account = id.account;
    h.region = id.region;
    h.agent = id.name;
    const bool opens = kind == BatchKind::kEpochOpen;
    h.epoch = opens ? state.epoch + 1 : state.epoch;
    h.batch_seq = opens ? 0 : state.batch_seq + 1;
    h.first_seq = opens ? 1 : state.last_seq + 1;
    h.last_seq = h.first_seq - 1;
    h.cum_events = opens ? 0 : state.cum_events;
    h.cum_lost = opens ? 0 : state.cum_lost;
    h.wall_close_ns = static_cast<uint64_t>(clock_.WallNanos());
    h.boot_close_ns = static_cast<uint64_t>(clock_.Now().ns) + ++ticks_;
    const std::string boot = clock_.BootId();
    std::copy_n(boot.begin(), 16, h.boot_id.begin());
    h.prev_hash = opens ? Hash{} : state.leaf;
    h.key_slot = static_cast<uint32_t>(h.batch_seq);
    h.keytree_root = tree->root();
    h.events_root = EmptyRoot();
    return h;
  }

  std::string Open(const Odd& odd = {}) {
    BatchHeader h = Next(BatchKind::kEpochOpen);
    EpochOpening o;
    o.reason = state.epoch == 0 ? EpochReason::kFirst : EpochReason::kClean;
    o.origin = origin;
    o.previous_epoch = state.epoch;
    o.previous_batch_seq = state.batch_seq;
    o.previous_leaf = state.leaf;
    o.previous_last_seq = state.last_seq;
    o.boot_id = clock_.BootId();
    o.clock_source = "ntp";
    o.cert_serial = "0a";
    o.keys = tree->keys();
    if (odd.opening) odd.opening(o);
    // prev_hash of an epoch_open is what the sealer writes: the previous epoch's last leaf.
    h.prev_hash = o.previous_leaf;
    const std::string extension = o.Encode();
    h.ext_hash = Sha256(extension);
    return Finish(h, extension, {}, odd);
  }

  std::string Batch(const std::vector<std::string>& bodies, const Odd& odd = {}) {
    BatchHeader h = Next(bodies.empty() ? BatchKind::kHeartbeat : BatchKind::kData);
    h.last_seq = h.first_seq + bodies.size() - 1;
    h.n_events = static_cast<uint32_t>(bodies.size());
    h.cum_events += bodies.size();
    return Finish(h, {}, bodies, odd);
  }

  AgentIdentity id;
  SeededRng rng;
  SigningKey key;
  std::unique_ptr<KeyTree> tree;
  ChainState state;
  std::string origin = "orgtrail.test/o-demo";
  BatchHeader last;

 private:
  std::string Finish(BatchHeader h, const std::string& extension, const std::vector<std::string>& bodies, const Odd& odd) {
    const std::string batch_key = bodies.empty() ? std::string(32, '\0') : rng.Bytes(32);
    std::vector<Row> rows;
    FramePacker packer;
    for (size_t i = 0; i < bodies.size(); ++i) {
      Row row;
      row.event_class = static_cast<uint16_t>(odd.event_class);
      row.seq = h.first_seq + i;
      row.wall_ns = h.wall_close_ns + i;
      row.boot_ns = h.boot_close_ns;
      row.body_len = static_cast<uint32_t>(bodies[i].size());
      row.body = bodies[i];
      rows.push_back(row);
      packer.Add(0, row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body);
    }
    if (!rows.empty()) {
      const RowHashes hashes = HashRows(batch_key, rows);
      h.events_root = hashes.root;
      h.body_bytes = hashes.body_bytes;
    }
    h.seen_size = odd.seen.size != 0 ? odd.seen.size : state.seen_size;
    h.seen_root = odd.seen.root;
    if (odd.header) odd.header(h);
    std::string entry = h.Encode();
    const std::string header = entry;
    if (odd.zero_signature) {
      entry += std::string(64, '\0');
    } else {
      entry += std::string(View(tree->SignOnce(std::min<uint32_t>(h.key_slot, 1023), odd.label, header)));
    }
    if (h.TwoSignatures()) entry += std::string(View(key.Sign(kEpochLabel, header)));
    if (odd.entry) odd.entry(entry);
    if (!odd.dry) state = Advance(state, h, LeafHash(entry));
    last = h;
    ZstdCompressor zstd(1);
    return packer.Finish(entry, extension, batch_key, zstd);
  }

  const Clock& clock_;
  uint64_t ticks_ = 0;
};

}  // namespace orgtrail
