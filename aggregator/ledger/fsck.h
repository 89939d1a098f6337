// Fsck: is the ledger on disk what it says it is? Reads everything and trusts nothing: CRCs, every leaf's hash from its bytes, each
// batch's events_root from its records, every tree node, the frontier, agent heads, each index, and that each shard continues the one
// before it. Changes nothing.
//
// Run it in a child process: LMDB maps the file, so a page the disk cannot deliver is a SIGBUS, and a damaged page may end the process.
// A ledger in use may be checked; what is appended meanwhile is not looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace orgtrail {

struct Finding {
  uint64_t leaf = UINT64_MAX;   // the leaf concerned; all ones: none
  std::string file;
  std::string what;             // what differs from what
  std::string remedy;
};

struct FsckOptions {
  std::string dir;              // …/ledger
  std::string origin;           // empty: whatever is stored
  std::string kek;              // to check records whose batch keys are encrypted; empty: their records are not checked
  bool records = true;          // inflate batches and compare events_root; else CRC only
  size_t max_findings = 1000;   // stops there
  uint64_t map_bytes = 1ull << 40;  // reserved, sparse: room for what is appended to the active shard meanwhile
  // The shard to begin with: those before it are believed to be what their successors say they are, as an earlier look found them.
  uint32_t from_shard = 1;
  // Called before a shard is opened, with its number and its file: who dies there knows what of.
  std::function<void(uint32_t number, const std::string& file)> entering = nullptr;
  // A leaf whose bytes are not what was logged, beside its finding; or (`is_bodiless`, no finding) a batch that is logged without its bodies, and
  // nobody let them expire.
  std::function<void(uint64_t leaf, bool is_bodiless)> lacking = nullptr;
  uint32_t to_shard = UINT32_MAX;   // the last to look at
  // Repair's (repair.h): `instead`, when not empty, is a directory whose data.mdb stands for that of shard from_shard; with `fix` entries of
  // its indexes and tree that are not what its leaves lead to are written anew instead of being findings.
  std::string instead;
  bool is_packed = false;           // … in the tables of a repacked shard
  bool fix = false;
};

struct FsckTotals {
  uint64_t leaves = 0, batches = 0, events = 0, bytes = 0;
  uint64_t read_bytes = 0;         // values looked at, indexes and blocks too: what the disk delivered at least
  uint64_t bodies_missing = 0;     // records whose batch came without bodies: no damage of this ledger
  uint64_t expired = 0;            // records whose bodies went by an order of governance that the log holds, or there is a finding
  uint32_t shards = 0;
  uint64_t fixed = 0;              // entries written anew
  uint64_t records_unchecked = 0;  // batches whose key is encrypted and was not given
};

// `progress(done, total)` in leaves, now and then, with no transaction open: it may wait. A shard that cannot be opened is a finding, and
// those after it are looked at all the same. Ok: everything could be looked at, and `findings` says what is wrong. Not ok: there
// is no ledger, or it cannot be opened at all.
absl::Status Fsck(const FsckOptions& options, const std::function<void(uint64_t done, uint64_t total)>& progress,
                  std::vector<Finding>* findings, FsckTotals* totals);

}  // namespace orgtrail
