#include "agent/uplink/mend.h"

#include <algorithm>

#include "common/base/bytes.h"
#include "common/base/log.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/format/frame.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

// The stored frame with the entry and extension that were signed in place of its own.
std::string WithEntry(std::string_view stored, const SignedEntry& signed_entry) {
  std::string frame("OTF1");
  PutU16(frame, static_cast<uint16_t>(signed_entry.entry.size()));
  frame += signed_entry.entry;
  PutU32(frame, static_cast<uint32_t>(signed_entry.extension.size()));
  frame += signed_entry.extension;
  frame += stored.substr(std::min(stored.size(), frame.size()));
  return frame;
}

// … of a batch without events: behind the extension there are 36 zeros, whatever the disk says.
std::string WithoutRows(const SignedEntry& signed_entry) {
  std::string frame = WithEntry("", signed_entry);
  frame.append(32 + 4, '\0');
  return frame;
}

bool HoldsWhatWasSigned(std::string_view frame, const BatchHeader& header) {
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  if (!view.ok() || !CheckExtension(header, view->extension, nullptr, nullptr).ok()) return false;
  ZstdDecompressor zstd;
  absl::StatusOr<Events> events = InflateFrame(*view, zstd);
  return events.ok() && CheckRows(header, events->rows, HashRows(view->batch_key, events->rows)).ok();
}

// The entry as it was signed: the copy, else the frame's own when the batch after it names its leaf.
absl::StatusOr<SignedEntry> EntryOf(const Spool& spool, BatchKey key, std::string_view stored) {
  absl::StatusOr<SignedEntry> copy = spool.ReadEntry(key);
  if (copy.ok()) return copy;
  const absl::StatusOr<FrameView> own = FrameView::Decode(stored);
  const absl::StatusOr<SignedEntry> after = spool.ReadEntry({key.epoch, key.batch_seq + 1});
  const absl::StatusOr<BatchEntry> next = after.ok() ? BatchEntry::Decode(after->entry) : after.status();
  if (own.ok() && next.ok() && next->header.prev_hash == LeafHash(own->entry)) {
    return SignedEntry{std::string(own->entry), std::string(own->extension)};
  }
  return Annotate(copy.status(), "its entry and the copy of it");
}

}  // namespace

absl::StatusOr<Mended> Mend(Spool& spool, BatchKey key, const std::function<void(const BatchHeader&)>& bodies_lost) {
  ASSIGN_OR_RETURN(const std::string stored, spool.ReadUnchecked(key));
  const auto beyond_mending = [&](const absl::Status& why) {
    return absl::DataLossError("SPOOL_TAMPER " + Name(key) + " in the spool is damaged: " + Describe(why));
  };
  const absl::StatusOr<SignedEntry> copy = EntryOf(spool, key, stored);
  if (!copy.ok()) return beyond_mending(copy.status());
  ASSIGN_OR_RETURN(const BatchEntry entry, BatchEntry::Decode(copy->entry));
  std::string whole = entry.header.n_events == 0 ? WithoutRows(*copy) : WithEntry(stored, *copy);
  if (HoldsWhatWasSigned(whole, entry.header)) {
    RETURN_IF_ERROR(spool.Repair(key, whole));
    return Mended{std::move(whole), true};
  }
  if (entry.header.n_events == 0) return beyond_mending(absl::DataLossError("its extension"));
  const absl::StatusOr<std::string> kept = spool.KeepEvidence(absl::StrCat("damaged-", key.epoch, "-", key.batch_seq, ".otf1"), stored);
  LogError("The disk damaged a batch before it was sent: its bodies are lost, its signed entry is not. Look at this disk.",
           {{"batch", Name(key)}, {"events", std::to_string(entry.header.n_events)}, {"kept", kept.ok() ? *kept : Describe(kept.status())}});
  if (bodies_lost) bodies_lost(entry.header);
  std::string bodiless = BodilessFrame(copy->entry, copy->extension, TombstoneReason::kCorrupt);
  RETURN_IF_ERROR(spool.Repair(key, bodiless));
  return Mended{std::move(bodiless), false};
}

}  // namespace orgtrail
