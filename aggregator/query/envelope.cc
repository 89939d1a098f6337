#include "aggregator/query/envelope.h"

#include <algorithm>

#include "aggregator/query/posted_by.h"
#include "common/base/ids.h"

namespace orgtrail {
namespace {

// Takes `,"name":"value"` off the end of `rest` and stores the value; false when it does not end so.
bool TakeLast(std::string_view* rest, std::string_view name, std::string_view* value) {
  if (rest->empty() || rest->back() != '"') return false;
  const size_t open = rest->rfind('"', rest->size() - 2);
  if (open == std::string_view::npos) return false;
  const std::string key = ",\"" + std::string(name) + "\":";
  if (open < key.size() || rest->substr(open - key.size(), key.size()) != key) return false;
  *value = rest->substr(open + 1, rest->size() - open - 2);
  *rest = rest->substr(0, open - key.size());
  return true;
}

// The recorder adds members last, in one order, without spaces, with values of its own: what ends so is what it added.
std::vector<std::string> Added(std::string_view body, const BatchHeader& header) {
  std::vector<std::string> names;
  if (body.empty() || body.back() != '}') return names;
  std::string_view rest = body.substr(0, body.size() - 1), value;
  std::string_view before = rest;
  if (TakeLast(&before, "recipientAccountId", &value) && value == header.account) {
    names.emplace_back("recipientAccountId");
    rest = before;
  }
  before = rest;
  if (TakeLast(&before, "eventID", &value) && Uuid::Parse(value).has_value()) {
    names.emplace_back("eventID");
    rest = before;
  }
  before = rest;
  if (TakeLast(&before, "awsRegion", &value) && value == header.region) {
    names.emplace_back("awsRegion");
    rest = before;
  }
  before = rest;
  if (TakeLast(&before, "eventTime", &value) && value.size() == 20) names.emplace_back("eventTime");
  std::reverse(names.begin(), names.end());
  return names;
}

struct NoteName {
  uint16_t note;
  const char* name;
};
constexpr NoteName kNotes[] = {
    {kNoteAccountMismatch, "BODY_ACCOUNT_MISMATCH"}, {kNoteWrapped, "RAW_WRAPPED"}, {kNoteTombstone, "TOMBSTONE"},
    {kNoteTimeOdd, "TIME_ODD"},                      {kNotePadding, "PADDING_SUSPECT"},
};

}  // namespace

void FillEnvelope(const Leaf& leaf, size_t i, bool whole, const Expiry& expiry, v1::Envelope* out) {
  const Row& row = leaf.events.rows[i];
  const RowFacts& facts = leaf.facts[i];
  const BatchHeader& header = leaf.header;
  out->set_account(std::string(facts.account));
  out->set_region(std::string(facts.region));
  out->set_agent(header.agent);
  out->set_agent_uuid(std::string(header.agent_uuid.view()));
  if (facts.account != header.account) out->set_agent_account(header.account);
  if (facts.region != header.region) out->set_agent_region(header.region);
  out->set_epoch(header.epoch);
  out->set_batch_seq(header.batch_seq);
  out->set_seq(row.seq);
  out->set_leaf_index(leaf.index);
  out->set_event_index(static_cast<uint32_t>(i));
  out->set_captured_ns(static_cast<int64_t>(row.wall_ns));
  out->set_logged_ns(leaf.logged_ns);
  out->set_event_class(row.event_class);
  out->set_flags(row.flags);
  out->set_quarantined((leaf.flags & kLeafQuarantined) != 0);
  for (std::string& name : Added(row.body, header)) out->add_added_members(std::move(name));
  if (std::string by = PostedBy(leaf, i); !by.empty()) out->set_posted_by(std::move(by));
  for (const NoteName& n : kNotes) {
    if (facts.notes & n.note) out->add_notes(n.name);
  }
  if (row.tombstone && row.reason == TombstoneReason::kExpired) {
    out->add_notes("EXPIRED");
    if (const std::optional<uint64_t> by = expiry.By(leaf.index)) out->add_notes("EXPIRED_BY_LEAF_" + std::to_string(*by));
  }
  if (row.tombstone && row.event_class == 0) out->add_notes("BODIES_MISSING");   // with its hash: the whole batch's
  if (leaf.flags & kLeafLate) out->add_notes("LATE");
  if (!whole) out->add_notes("BLOB_INCOMPLETE");
  out->set_copies(1);
}

}  // namespace orgtrail
