// Leaf: one entry of the log as the aggregator's stages share it, inflated and scanned once. Immutable after it is built.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/format/batch.h"
#include "common/format/frame.h"

namespace orgtrail {

enum LeafFlag : uint16_t {       // the ledger's own, beside the leaf, not hashed
  kLeafQuarantined = 1,          // authentic but of a branch in quarantine (equivocation, epoch conflict)
  kLeafLate = 2,                 // a heartbeat or batch that quotes a stale head
};

enum RowNote : uint16_t {        // what admission found odd about one record
  kNoteAccountMismatch = 1,      // BODY_ACCOUNT_MISMATCH: kept, in the capturing account's and auditors' views
  kNoteWrapped = 2,              // RAW_WRAPPED
  kNoteTombstone = 4,            // body gone: corrupt, redacted or expired
  kNoteTimeOdd = 8,              // eventTime missing, unparseable or outside 1970–2200: placed by log time
  kNotePadding = 16,             // PADDING_SUSPECT
  kNoteBlob = 32,                // a stub; the record follows in class-8 chunks
};

struct RowFacts {
  int64_t event_time_ns = 0;     // eventTime, else wall_ns
  std::string_view account, region;  // where the record belongs (collectors: its own); into Leaf's memory
  uint16_t notes = 0;
  uint32_t terms_begin = 0, terms_end = 0;  // into Leaf::terms
};

struct Leaf {
  uint64_t index = 0;            // filled at commit
  Hash hash;
  int64_t logged_ns = 0;
  uint16_t flags = 0;
  std::string bytes;             // a batch: the whole OTF1; control: the entry
  bool is_batch = false;
  BatchHeader header;            // batches
  Events events;                 // batches; rows view its storage
  std::vector<RowFacts> facts;   // one per row
  std::vector<uint64_t> terms;   // hashes of (attribute, value): admit/terms.h
};

// What the history needs of a leaf: no bodies, no views into it.
struct LeafTerms {
  struct Row {                   // a record; chunks are left out
    int64_t event_time_ns = 0;
    uint32_t event = 0;          // its number in the leaf
    uint32_t terms_end = 0;      // in `terms`; its first follows the last of the row before
    uint16_t event_class = 0;
    bool tombstone = false;
  };
  uint64_t index = 0;
  int64_t logged_ns = 0;
  uint16_t flags = 0;
  std::vector<Row> rows;
  std::vector<uint64_t> terms;
  static std::shared_ptr<const LeafTerms> Of(const Leaf& leaf);
};

}  // namespace orgtrail
