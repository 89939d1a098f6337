// Sealer: chain and seal. One signature per batch, never per record; the agent's and the aggregator's own agent's.
//
// Path     record → [Sealer] → spool (agent) or verify (aggregator's own agent)
// Threads  one.
// Holds    seq is assigned by Add before any drop decision; slots are used once, in order; wall_ns strictly increases.
// Bytes    docs/formats/batch.md, epoch.md, frame.md
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/random.h"
#include "common/compress/zstd.h"
#include "common/crypto/cipher.h"
#include "common/crypto/sign.h"
#include "common/format/batch.h"
#include "common/format/epoch.h"
#include "common/format/event.h"
#include "common/format/frame.h"

namespace orgtrail {

// 1,024 one-time keys. Seeds live in locked, undumped memory and are cleansed as they are used; never on disk.
class KeyTree {
 public:
  explicit KeyTree(Rng& rng);                // draws seeds; keys are computed by Grow
  ~KeyTree();
  KeyTree(const KeyTree&) = delete;
  bool Grow(uint32_t keys);                  // computes up to `keys` more public keys (45 µs each); true when complete
  const std::vector<PublicKey>& keys() const;
  const Hash& root() const;                  // complete trees only
  Signature SignOnce(uint32_t slot, std::string_view label, std::string_view message);  // CHECKs that the slot is unused
  void Erase(uint32_t slot);                 // cleanses the seed: call when the batch is committed

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct AgentIdentity {
  Uuid uuid;
  std::string org, account, region, name;
};

// What a batch quotes of the log and the policy when it is closed.
struct Seen {
  uint64_t size = 0;
  Hash root;
  uint64_t policy_version = 0;
  Hash policy_hash;
};

struct SealedBatch {
  BatchHeader header;
  std::string frame;         // whole OTF1
  Hash leaf;                 // LeafHash(entry)
};

class Sealer {
 public:
  Sealer(AgentIdentity identity, const SigningKey& identity_key, const Clock& clock, Rng& rng);
  ~Sealer();

  // Opens `epoch` (greater than any before; the caller made that durable or derives it from what is). First batch to store.
  // `opening` comes without keys; the sealer adds them.
  absl::StatusOr<SealedBatch> OpenEpoch(uint64_t epoch, EpochOpening opening, const Seen& seen);

  // Adds one event to the open batch. `body` is hashed and copied; views need not live on. Returns its seq.
  uint64_t Add(EventClass event_class, uint16_t flags, std::string_view body);
  // Records that `count` events were lost here: seq advances over them, the next batch's n_lost counts them. The class-6 event
  // that explains them is Add()ed by the caller.
  void Lose(uint32_t count);

  bool empty() const;        // nothing to close
  bool full() const;         // 1,000 events or 1 MiB: close before the next Add
  size_t pending_bytes() const;
  size_t pending_events() const;

  // Closes the open batch; data when it holds events, else a heartbeat. When the tree's last slot is next, returns the roll
  // too: store all that is returned in one transaction, in order.
  absl::StatusOr<std::vector<SealedBatch>> Close(uint16_t flags, const Seen& seen);
  absl::StatusOr<std::vector<SealedBatch>> CloseEpoch(uint16_t flags, const Seen& seen);  // last words: kind 3
  // Cleanses the seeds of everything closed so far: call when the transaction that stored it returned.
  void Committed();

  uint64_t epoch() const;
  uint64_t next_seq() const;
  uint64_t cum_events() const;
  const Hash& head() const;  // leaf hash of the last batch

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
