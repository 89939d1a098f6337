// Source: raw events in. One class per kind of source, a thread of its own each; all feed one Intake.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/digest.h"

namespace orgtrail {

// Where a file source is: identity of the file and the offset up to which its lines were handed over. Committed in the same
// transaction as the batches that hold those lines, so a crash reads again exactly what was not captured.
struct FilePosition {
  std::string key;           // device, inode and SHA-256 of the first min(1 KiB, size) bytes: see file_tail.h
  std::string path;          // last seen under
  uint64_t offset = 0;
  bool finished = false;     // rotated away and read to its end, or a .gz / {"Records":[…]} file done
  std::string mark;          // first 8 bytes of the SHA-256 of the (up to) 256 bytes before offset: tells a copy from a namesake
  bool forget = false;       // remove this key instead: the file is gone, or goes by a longer identity now
};

// A text that is handed over cut, because it is too long for anybody to hold: what it was as a whole.
struct WholeText {
  Hash sha256;
  uint64_t bytes = 0;
};

// Raw texts that go into the log together. Views live until Take returns.
struct RawChunk {
  std::string_view source;                 // "file:/var/log/x.jsonl", "http", "socket:uid=1000": for loss records and limits
  std::vector<std::string_view> texts;     // one record each, without the line end
  std::optional<WholeText> cut;            // the chunk's only text is the beginning of this one, and beyond limits::kRecordBytes
  std::string posted_by;                   // who handed them over, "http:uid=1000 (alice)": recorded beside them; empty: nobody to name
  std::vector<FilePosition> positions;     // to commit with them; empty for http
  std::string idempotency_key;             // http: remembered with the batch's transaction; empty: none
  std::string idempotent_reply;            // what to answer again for that key
  // More of the same kind, committed likewise: one for each event of a PutAuditEvents call.
  std::vector<std::pair<std::string, std::string>> replies;
  bool sync = false;                       // a caller waits: close the batch at once
};

struct Taken {
  uint64_t first_seq = 0;                  // of the first text's event; 0 when texts was empty
  uint64_t accepted = 0, wrapped = 0;
  std::vector<std::string> event_ids;      // of each text, only when sync (PutAuditEvents answers them)
};

// The recorder's door. Take returns when the chunk is in the spool and fsynced (sync), or handed over and bounded (not sync).
// ResourceExhausted: backpressure, nothing of the chunk was taken; try again later. Threads: any.
class Intake {
 public:
  virtual ~Intake() = default;
  virtual absl::StatusOr<Taken> Take(const RawChunk& chunk) = 0;
  virtual absl::StatusOr<std::vector<FilePosition>> Positions() = 0;              // as committed, at start
  virtual absl::StatusOr<std::string> IdempotentReply(std::string_view key) = 0;  // NotFound: never seen (or older than 24 h)
  // The source lost `count` events nobody can recover (ring buffer overrun, a file truncated before it was read).
  virtual void Lost(std::string_view source, std::string_view cause, uint32_t count, std::string_view detail) = 0;
};

class Source {
 public:
  virtual ~Source() = default;
  virtual absl::Status Start() = 0;   // spawns its thread
  virtual void Stop() = 0;            // returns when nothing more will be taken
};

}  // namespace orgtrail
