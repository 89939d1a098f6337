#include "aggregator/query/lookup.h"

#include <algorithm>

#include "aggregator/admit/terms.h"
#include "aggregator/query/cursor.h"
#include "aggregator/query/envelope.h"
#include "aggregator/query/whole_record.h"
#include "common/base/bytes.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {
namespace {

constexpr uint32_t kDefaultResults = 50, kMaxResults = 1000;
constexpr size_t kPageBytes = 3 << 20;        // below gRPC's default of 4 MiB a message
constexpr size_t kCandidates = 20'000;        // checked for one page
constexpr size_t kCopiesChecked = 100;
constexpr size_t kMacBytes = 16;
constexpr std::string_view kPageLabel{"orgtrail/page/v1\0", 17};

struct PageToken {
  uint64_t tree_size = 0;
  HistoryRecord after;
};
std::string EncodePage(const PageToken& t) {
  std::string out(1, '\1');
  PutU64(out, t.tree_size);
  PutU64(out, static_cast<uint64_t>(t.after.time_ns));
  PutU64(out, t.after.leaf);
  PutU32(out, t.after.event);
  return out;
}
bool DecodePage(std::string_view bytes, PageToken* out) {
  ByteReader r(bytes);
  const bool version = r.U8() == 1;
  out->tree_size = r.U64();
  out->after.time_ns = static_cast<int64_t>(r.U64());
  out->after.leaf = r.U64();
  const uint32_t event = r.U32();
  out->after.event = static_cast<uint16_t>(event);
  return version && event <= UINT16_MAX && r.Done();
}

constexpr const char* kEventIdReuse = "EVENTID_REUSE";

// Whether the index holds less of a value than the record has.
bool IndexCut(const Row& row) {
  json::Scanner scanner;
  json::Fields fields;
  if (row.tombstone || row.body.size() <= limits::kIndexValueBytes || scanner.Scan(row.body, &fields) != json::Flaw::kNone) return false;
  const std::vector<Term> terms = TermsOf(fields);
  return std::any_of(terms.begin(), terms.end(), [](const Term& t) { return t.value.size() > limits::kIndexValueBytes; });
}

std::vector<std::pair<std::string, std::string>> Pairs(const v1::LookupRequest& request) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const v1::Attribute& a : request.attributes()) pairs.emplace_back(a.key(), a.value());
  return pairs;
}

}  // namespace

Lookup::Lookup(const History& history, const LedgerReader& ledger, const Completeness& completeness, std::string mac_key)
    : history_(history), ledger_(ledger), completeness_(completeness), mac_key_(std::move(mac_key)), expiry_(ledger) {
  CHECK(mac_key_.size() == 32);
}

std::string Lookup::Mac(const Identity& who, const v1::LookupRequest& request, std::string_view payload) const {
  std::string data(kPageLabel);
  data += who.ToUri();
  data += '\0';
  const auto put = [&data](std::string_view text) {
    PutU32(data, static_cast<uint32_t>(text.size()));
    data += text;
  };
  for (const v1::Attribute& a : request.attributes()) {
    put(a.key());
    put(a.value());
  }
  PutU64(data, static_cast<uint64_t>(request.start_ns()));
  PutU64(data, static_cast<uint64_t>(request.end_ns()));
  data += request.include_own() ? '\1' : '\0';
  data += request.include_quarantined() ? '\1' : '\0';
  data += payload;
  return HmacSha256(mac_key_, data).substr(0, kMacBytes);
}

absl::StatusOr<Lookup::Copies> Lookup::CountCopies(const HistorySnapshot& snapshot, const Question& question, const HistoryRecord& record, Leaves& leaves) const {
  Copies copies;
  ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, leaves.Read(record));
  const Row& row = leaf->events.rows[record.event];
  const std::string id = EventIdOf(row);
  if (id.empty()) return copies;
  // Identical bytes have the same event id and time: one term finds them all.
  HistoryQuery same;
  same.terms = {TermHash(Attribute::kEventId, id)};
  same.start_ns = same.end_ns = record.time_ns;
  // Unless no time can be read from them: then each stands at the moment it was captured, and all that the question covers count.
  if ((leaf->facts[record.event].notes & kNoteTimeOdd) != 0) {
    same.start_ns = question.query.start_ns;
    same.end_ns = question.query.end_ns;
  }
  // Who asks for an id is told of all that have it. For any other question that would be a search of every run for each record shown.
  if (question.names_id) same.start_ns = INT64_MIN, same.end_ns = INT64_MAX;
  same.tree_size = question.query.tree_size;
  same.own = question.query.own;
  HistorySearch search(snapshot, same);
  for (size_t i = 0; i < kCopiesChecked; ++i) {
    const std::optional<HistoryRecord> other = search.Next();
    if (!other.has_value()) break;
    if ((other->leaf == record.leaf && other->event == record.event) ||
        (!question.quarantined && (other->flags & kHistoryQuarantined) != 0)) {
      continue;
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> at, leaves.Read(*other));
    const Row& it = at->events.rows[other->event];
    if (it.body != row.body) {
      copies.id_reused |= question.access.Sees(at->facts[other->event].account) && EventIdOf(it) == id;
      continue;
    }
    const bool covered = other->time_ns >= question.query.start_ns && other->time_ns <= question.query.end_ns;
    if (!covered || at->facts[other->event].account != leaf->facts[record.event].account) continue;
    ++copies.count;
    copies.shown_before |= Newer(*other, record);
  }
  return copies;
}

absl::StatusOr<v1::LookupResponse> Lookup::Find(const Identity& who, const v1::LookupRequest& request) const {
  ASSIGN_OR_RETURN(const Access access, AccessOf(who));
  if (request.max_results() > kMaxResults) {
    return absl::InvalidArgumentError(absl::StrCat("max_results is 1 to ", kMaxResults, ", not ", request.max_results()));
  }
  const uint32_t wanted = request.max_results() == 0 ? kDefaultResults : request.max_results();
  HistoryQuery query;
  if (request.start_ns() != 0) query.start_ns = request.start_ns();
  if (request.end_ns() != 0) query.end_ns = request.end_ns();
  if (query.start_ns > query.end_ns) return absl::InvalidArgumentError("start_ns is after end_ns");
  query.own = request.include_own();
  const bool names_id = std::any_of(request.attributes().begin(), request.attributes().end(), [](const v1::Attribute& a) { return a.key() == "EventId"; });
  std::vector<std::pair<std::string, std::string>> pairs = Pairs(request);
  if (!access.all) pairs.emplace_back("Account", access.account);
  ASSIGN_OR_RETURN(Filter filter, Filter::Make(pairs));
  query.terms = filter.terms();
  query.addresses = filter.addresses();

  const HistorySnapshot snapshot = history_.snapshot();
  query.tree_size = snapshot.indexed_to;
  if (!request.page_token().empty()) {
    const std::optional<std::string> token = Unbase64Url(request.page_token());
    PageToken page;
    if (!token.has_value() || token->size() <= kMacBytes) return absl::InvalidArgumentError("page_token is not one of ours");
    const std::string_view payload = std::string_view(*token).substr(0, token->size() - kMacBytes);
    if (!ConstantTimeEqual(std::string_view(*token).substr(payload.size()), Mac(who, request, payload))) {
      return absl::PermissionDeniedError("page_token was not made for this caller and request: start again without it");
    }
    if (!DecodePage(payload, &page)) return absl::InvalidArgumentError("page_token is of another version: start again without it");
    if (page.tree_size > snapshot.indexed_to) {
      return absl::UnavailableError("the history is being rebuilt and has not reached this page yet: try again");
    }
    query.tree_size = page.tree_size;
    query.after = page.after;
  }

  v1::LookupResponse response;
  Leaves leaves(ledger_);
  CursorWriter cursors(mac_key_, who, ledger_);
  HistorySearch search(snapshot, query);
  uint64_t quarantined = 0, gone = 0;
  size_t bytes = 0;
  for (size_t checked = 0;; ++checked) {
    const std::optional<HistoryRecord> record = search.Next();
    if (!record.has_value()) break;
    bool shown = false;
    if ((record->flags & kHistoryQuarantined) == 0 || request.include_quarantined() || !filter.empty()) {
      ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, leaves.Read(*record));
      if (filter.Matches(*leaf, record->event)) {
        if ((record->flags & kHistoryQuarantined) != 0) ++quarantined;
        if ((record->flags & kHistoryQuarantined) == 0 || request.include_quarantined()) {
          ASSIGN_OR_RETURN(const Copies copies, CountCopies(snapshot, {query, access, request.include_quarantined(), names_id}, *record, leaves));
          shown = !copies.shown_before;
          if (shown) {
            bool whole;
            ASSIGN_OR_RETURN(std::string body, WholeRecord(ledger_, *leaf, record->event, &whole));
            bytes += body.size() + 512;
            v1::Event* event = response.add_events();
            event->set_record(std::move(body));
            FillEnvelope(*leaf, record->event, whole, expiry_, event->mutable_envelope());
            event->mutable_envelope()->set_copies(copies.count);
            if (IndexCut(leaf->events.rows[record->event])) event->mutable_envelope()->add_notes("INDEX_CUT");
            if (copies.id_reused) event->mutable_envelope()->add_notes(kEventIdReuse);
            event->mutable_envelope()->set_cursor(cursors.Text({record->leaf, record->event + 1u}));
          }
        }
      } else if (leaf->events.rows[record->event].tombstone) {
        ++gone;
      }
    } else {
      ++quarantined;
    }
    if (static_cast<uint32_t>(response.events_size()) >= wanted || bytes >= kPageBytes || checked + 1 >= kCandidates) {
      const std::string payload = EncodePage({query.tree_size, *record});
      response.set_next_page_token(Base64Url(payload + Mac(who, request, payload)));
      break;
    }
  }
  *response.mutable_completeness() = completeness_.Of(access, snapshot.indexed_to, query.tree_size, request.start_ns(), request.end_ns());
  response.mutable_completeness()->set_quarantined_matches(quarantined);
  if (gone != 0) {
    response.mutable_completeness()->add_losses(
        absl::StrCat(gone, " records that the history finds have no body any more, and are left out: nothing can be compared with the question"));
  }
  return response;
}

absl::StatusOr<std::vector<EventRef>> Lookup::Locate(const Access& access, std::string_view event_id, size_t max) const {
  std::vector<std::pair<std::string, std::string>> pairs = {{"EventId", std::string(event_id)}};
  if (!access.all) pairs.emplace_back("Account", access.account);
  ASSIGN_OR_RETURN(Filter filter, Filter::Make(pairs));
  HistoryQuery query;
  query.terms = filter.terms();
  query.own = true;
  HistorySearch search(history_.snapshot(), query);
  Leaves leaves(ledger_);
  std::vector<EventRef> found;
  while (found.size() < max) {
    const std::optional<HistoryRecord> record = search.Next();
    if (!record.has_value()) break;
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, leaves.Read(*record));
    if (filter.Matches(*leaf, record->event)) found.push_back({record->leaf, record->event});
  }
  return found;
}

absl::StatusOr<bool> Lookup::Differ(const std::vector<EventRef>& refs) const {
  std::string body;
  for (size_t i = 0; i < refs.size(); ++i) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, ledger_.Read(refs[i].leaf));
    const std::string_view other = leaf->events.rows[refs[i].event].body;
    if (i == 0) body = other;
    if (other != body) return true;
  }
  return false;
}

absl::StatusOr<v1::GetEventResponse> Lookup::Get(const Identity& who, const v1::GetEventRequest& request) const {
  constexpr size_t kMost = 100;
  ASSIGN_OR_RETURN(const Access access, AccessOf(who));
  std::vector<EventRef> refs, sharing;   // sharing: its id, when a position was asked for
  if (request.at_set()) {
    refs.push_back({request.leaf_index(), request.event_index()});
  } else {
    ASSIGN_OR_RETURN(refs, Locate(access, request.event_id(), kMost));
  }
  v1::GetEventResponse response;
  size_t bytes = 0;
  for (const EventRef& ref : refs) {
    if (ref.leaf >= ledger_.head().size) {
      return absl::OutOfRangeError(absl::StrCat("leaf ", ref.leaf, " is beyond the log's ", ledger_.head().size, " leaves"));
    }
    ASSIGN_OR_RETURN(const std::shared_ptr<const Leaf> leaf, ledger_.Read(ref.leaf));
    // One answer for what is not there and what the caller may not see: it tells neither.
    if (ref.event >= leaf->events.rows.size() || !access.Sees(leaf->facts[ref.event].account)) {
      return absl::NotFoundError(absl::StrCat("no record at ", ref.leaf, ":", ref.event));
    }
    bool whole;
    ASSIGN_OR_RETURN(std::string body, WholeRecord(ledger_, *leaf, ref.event, &whole));
    bytes += body.size();
    if (response.events_size() > 0 && bytes > kPageBytes) break;
    v1::Event* event = response.add_events();
    event->set_record(std::move(body));
    FillEnvelope(*leaf, ref.event, whole, expiry_, event->mutable_envelope());
    event->mutable_envelope()->set_cursor(CursorWriter(mac_key_, who, ledger_).Text({ref.leaf, ref.event + 1}));
    if (!request.at_set()) continue;
    if (const std::string id = EventIdOf(leaf->events.rows[ref.event]); !id.empty()) {
      ASSIGN_OR_RETURN(sharing, Locate(access, id, kMost));
    }
  }
  ASSIGN_OR_RETURN(const bool reused, Differ(request.at_set() ? sharing : refs));
  for (v1::Event& event : *response.mutable_events()) {
    if (reused) event.mutable_envelope()->add_notes(kEventIdReuse);
  }
  if (response.events_size() == 0) {
    return absl::NotFoundError(absl::StrCat("no record with event id ", request.event_id(),
                                            " in the history; older records need their position (LEAF:EVENT)"));
  }
  const uint64_t indexed_to = history_.indexed_to();
  *response.mutable_completeness() = completeness_.Of(access, indexed_to, indexed_to);
  return response;
}

std::string DetailsOf(const v1::LookupRequest& request) {
  std::string out = "{\"attributes\":[";
  for (int i = 0; i < request.attributes_size(); ++i) {
    if (i > 0) out += ',';
    out += "{\"key\":" + JsonString(request.attributes(i).key().substr(0, 64)) +
           ",\"value\":" + JsonString(request.attributes(i).value().substr(0, 256)) + "}";
  }
  out += "]";
  if (request.start_ns() != 0) out += ",\"start\":" + JsonString(Rfc3339(absl::FromUnixNanos(request.start_ns())));
  if (request.end_ns() != 0) out += ",\"end\":" + JsonString(Rfc3339(absl::FromUnixNanos(request.end_ns())));
  if (request.include_own()) out += ",\"own\":true";
  if (request.include_quarantined()) out += ",\"quarantined\":true";
  return out + "}";
}

}  // namespace orgtrail
