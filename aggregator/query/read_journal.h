// ReadJournal: every read is itself recorded before rows are returned.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace orgtrail {

struct Peer;  // common/rpc/credentials.h

class ReadJournal {
 public:
  virtual ~ReadJournal() = default;
  // `name` is the record's eventName (LookupEvents, SubscribeFeed, …), `details` a JSON object. Returns when the record is
  // durable; may block. Not ok: the read is refused. Threads: any but gRPC reactions.
  virtual absl::Status Record(const Peer& who, std::string_view name, std::string details) = 0;
};

}  // namespace orgtrail
