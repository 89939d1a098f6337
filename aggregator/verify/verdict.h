// Verdict: what verification answers to a stream, and the names both sides use for each other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace orgtrail {

using StreamId = uint64_t;  // a stream across threads; the stream itself may be gone

// Who is at the other end, as TLS proved it. Immutable, shared by everything the stream has in flight.
struct Caller {
  Identity identity;
  std::string serial;   // of the certificate, hex
  std::string address;
};

// One frame on its way in. `frame` is the whole OTF1, not looked at yet.
struct Submission {
  StreamId from = 0;
  std::shared_ptr<const Caller> caller;
  Uuid uuid;            // as said in Hello; the header must say the same
  std::string frame;
};

// Why a frame was not taken, and what the agent does next.
struct Refused {
  StreamId from = 0;
  std::string code;
  std::string detail;
  uint32_t retry_ms = 0;                 // limits
  uint64_t epoch = 0, batch_seq = 0;     // CHAIN_EXPECT and limits: send this next
  bool closes = false;
};

class Verdicts {  // the ingest sessions
 public:
  virtual ~Verdicts() = default;
  virtual void Refuse(Refused refused) = 0;   // verify threads: hand over, do not work
  virtual void Room(StreamId stream) = 0;     // a TryEnter that was refused may succeed now; any thread
};

}  // namespace orgtrail
