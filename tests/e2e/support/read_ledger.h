// The ledger of an organization, read by the product's own code, while its aggregator runs or not.
// Errors: throws (process.h).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aggregator/ledger/ledger.h"
#include "common/format/batch.h"
#include "common/format/control.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/fs/file.h"
#include "tests/e2e/support/organization.h"

namespace orgtrail::e2e {

// As it is now: what is logged later is not seen.
inline std::unique_ptr<Ledger> OpenLedger(const Organization& organization) {
  LedgerOptions options;
  options.dir = organization.ledger_dir();
  options.read_only = true;
  options.kek = ReadWhole(organization.Path("org/aggregator/kek.key"));
  absl::StatusOr<std::unique_ptr<Ledger>> ledger = Ledger::Open(options, "", nullptr, PosixFs(), SystemClock());
  if (!ledger.ok()) Fail("the ledger: " + std::string(ledger.status().message()));
  return *std::move(ledger);
}

struct LoggedEpoch {
  uint64_t epoch = 0;
  EpochOpening opening;
  bool closed = false;               // with last words
};
// The epochs of the agent of this name, in the log's order.
inline std::vector<LoggedEpoch> EpochsOf(const Ledger& ledger, std::string_view agent) {
  std::vector<LoggedEpoch> epochs;
  for (uint64_t index = 0; index < ledger.head().size; ++index) {
    const absl::StatusOr<std::string> bytes = ledger.ReadEntry(index);
    if (!bytes.ok()) Fail("leaf " + std::to_string(index) + ": " + std::string(bytes.status().message()));
    if (LeafMagic(*bytes) != "OTB1") continue;
    const absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(*bytes);
    if (!entry.ok()) Fail("leaf " + std::to_string(index) + ": " + std::string(entry.status().message()));
    const BatchHeader& h = entry->header;
    if (h.agent != agent) continue;
    if (h.kind == BatchKind::kEpochOpen) {
      const absl::StatusOr<RawLeaf> raw = ledger.ReadRaw(index);
      const absl::StatusOr<FrameView> frame = raw.ok() ? FrameView::Decode(raw->bytes) : raw.status();
      absl::StatusOr<EpochOpening> opening = frame.ok() ? EpochOpening::Decode(frame->extension) : frame.status();
      if (!opening.ok()) Fail("leaf " + std::to_string(index) + ": " + std::string(opening.status().message()));
      epochs.push_back({h.epoch, *std::move(opening), false});
    }
    if (h.kind == BatchKind::kEpochClose && !epochs.empty()) epochs.back().closed = true;
  }
  return epochs;
}

}  // namespace orgtrail::e2e
