// Recorder: raw → Record. Adds what a record lacks and the agent knows, once, before hashing, by inserting members before the
// last '}' in the order eventTime, awsRegion, eventID, recipientAccountId, without spaces; wraps what is not a record; keeps
// every byte that came. docs/formats/record.md
//
// Threads  one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "agent/capture/source.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/random.h"
#include "common/format/event.h"
#include "common/json/scanner.h"

namespace orgtrail {

enum AddedMember : uint8_t { kAddedTime = 1, kAddedRegion = 2, kAddedEventId = 4, kAddedAccount = 8 };

struct StampedRecord {
  EventClass event_class = EventClass::kManagement;   // by eventCategory/eventType and managementEvent; absent: management
  uint16_t flags = 0;                                  // kFlagWrapped, kFlagBlob
  std::string_view body;                               // into the raw text or the recorder's buffer: until the next Stamp
  std::string_view event_id;                           // as it stands in the body; empty when it is not a string there
  uint8_t added = 0;                                   // AddedMember bits
  json::Flaw flaw = json::Flaw::kNone;
  bool padding_suspect = false;                        // over half of a field beyond 64 KiB is white space or one byte
  std::vector<std::string> chunks;                     // class-8 chunks that follow: records beyond 1 MiB
};

class Recorder {
 public:
  Recorder(std::string account, std::string region, const Clock& clock, Rng& rng);
  // `whole`: the text is the first part of one this long, itself beyond limits::kRecordBytes.
  const StampedRecord& Stamp(std::string_view raw, const std::optional<WholeText>& whole = std::nullopt);

 private:
  void AddMissing();
  void Insert(std::string_view raw);
  void Wrap(std::string_view raw);
  const StampedRecord& Stub(std::string_view shown, const WholeText& whole, bool truncated);

  const std::string account_, region_;
  const Clock& clock_;
  Rng& rng_;
  json::Scanner scanner_;
  json::Fields fields_;
  StampedRecord out_;
  std::string buffer_, id_;
  std::string missing_;  // `,"eventTime":…` and so on: what the record lacks
  size_t id_at_ = 0;     // where the new event id stands in missing_
};

}  // namespace orgtrail
