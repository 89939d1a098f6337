#include "aggregator/client/envelope.h"

#include <algorithm>

#include "aggregator/admit/terms.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/json/scanner.h"

namespace orgtrail::client {
namespace {

std::string Time(int64_t ns) { return JsonString(Rfc3339(absl::FromUnixNanos(ns), 9)); }

template <class List>
std::string Strings(const List& list) {
  std::string json = "[";
  for (const std::string& s : list) json += (json.size() > 1 ? "," : "") + JsonString(s);
  return json + "]";
}

struct Scanned {
  json::Scanner scanner;
  json::Fields fields;
  bool ok = false;
  explicit Scanned(std::string_view text) { ok = scanner.Scan(text, &fields) == json::Flaw::kNone; }
};

std::string FirstTerm(const json::Fields& fields, Attribute attribute) {
  for (Term& t : TermsOf(fields)) {
    if (t.attribute == attribute) return std::move(t.value);
  }
  return "";
}

}  // namespace

std::string EnvelopeOnlyJson(const orgtrail::v1::Envelope& e) {
  std::string json = "{\"cursor\":" + JsonString(e.cursor());
  json += ",\"account\":" + JsonString(e.account()) + ",\"region\":" + JsonString(e.region());
  json += ",\"agent\":{\"name\":" + JsonString(e.agent());
  if (e.agent_uuid().size() == 16) json += ",\"uuid\":" + JsonString(Uuid::FromBytes(e.agent_uuid()).ToString());
  json += ",\"account\":" + JsonString(e.agent_account().empty() ? e.account() : e.agent_account());
  json += ",\"region\":" + JsonString(e.agent_region().empty() ? e.region() : e.agent_region()) + "}";
  json += ",\"epoch\":" + std::to_string(e.epoch()) + ",\"batch\":" + std::to_string(e.batch_seq());
  json += ",\"sequence\":" + std::to_string(e.seq());
  json += ",\"leaf\":" + std::to_string(e.leaf_index()) + ",\"event\":" + std::to_string(e.event_index());
  json += ",\"captured\":" + Time(e.captured_ns()) + ",\"logged\":" + Time(e.logged_ns());
  json += ",\"class\":" + std::to_string(e.event_class()) + ",\"flags\":" + std::to_string(e.flags());
  if (e.quarantined()) json += ",\"quarantined\":true";
  if (e.added_members_size() != 0) json += ",\"added\":" + Strings(e.added_members());
  if (!e.posted_by().empty()) json += ",\"postedBy\":" + JsonString(e.posted_by());
  if (e.notes_size() != 0) json += ",\"notes\":" + Strings(e.notes());
  if (e.copies() > 1) json += ",\"copies\":" + std::to_string(e.copies());
  return json + "}";
}

std::string EnvelopeJson(const orgtrail::v1::Event& event) {
  std::string json = EnvelopeOnlyJson(event.envelope());
  json.pop_back();
  json += ",\"record\":" + (event.record().empty() ? std::string("null") : event.record()) + "}";
  return json;
}

std::string BodyGone(const orgtrail::v1::Envelope& envelope) {
  constexpr std::string_view kBy = "EXPIRED_BY_LEAF_";
  for (const std::string& note : envelope.notes()) {
    if (note.starts_with(kBy)) {
      return "(the body of this record expired: governance ordered how long bodies are kept, and leaf " + note.substr(kBy.size()) +
             " let it go. Its hash stays: a proof made before verifies as ever)";
    }
  }
  return "(the body of this record is gone; the notes say why)";
}

EventLine LineOf(const orgtrail::v1::Event& event, const absl::TimeZone& zone) {
  EventLine line;
  line.account = event.envelope().account();
  line.region = event.envelope().region();
  Scanned s(event.record());
  if (event.record().empty()) {
    line.time = absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixNanos(event.envelope().captured_ns()), zone);
    const auto& notes = event.envelope().notes();
    line.event = std::find(notes.begin(), notes.end(), "EXPIRED") != notes.end() ? "(body expired; see `events show`)" : "(body gone; see `events show`)";
    return line;
  }
  if (!s.ok) {
    line.event = "(not readable)";
    return line;
  }
  absl::Time time;
  const std::string text = json::Text(s.fields.event_time);
  line.time = ParseWhen(text, absl::InfinitePast(), &time) ? absl::FormatTime("%Y-%m-%d %H:%M:%S", time, zone) : text;
  line.principal = FirstTerm(s.fields, Attribute::kUsername);
  if (line.principal.empty()) line.principal = json::Text(s.fields.identity_invoked_by);
  if (line.principal.empty()) line.principal = FirstTerm(s.fields, Attribute::kPrincipal);
  line.principal = Shortened(std::move(line.principal));
  std::string source = json::Text(s.fields.event_source);
  if (const size_t dot = source.find(".amazonaws.com"); dot != std::string::npos) source.resize(dot);
  line.event = Shortened(std::move(source)) + ":" + Shortened(json::Text(s.fields.event_name));
  for (const std::string& note : event.envelope().notes()) {
    if (note == "RAW_WRAPPED") line.event = "(not a record; kept as it came)";
  }
  line.source_ip = json::Text(s.fields.source_ip);
  if (s.fields.error_code.type == json::Value::Type::kString) line.error = Shortened(json::Text(s.fields.error_code));
  line.id = Shortened(json::Text(s.fields.event_id));
  if (event.envelope().copies() > 1) line.event += " ×" + std::to_string(event.envelope().copies());
  return line;
}

std::string Shortened(std::string value) {
  constexpr size_t kShown = 40;
  if (value.size() <= limits::kIndexValueBytes) return value;
  const std::string whole = "… (" + std::to_string(value.size()) + " bytes)";
  size_t n = kShown;
  while (n > 0 && (static_cast<uint8_t>(value[n]) & 0xC0) == 0x80) --n;
  return value.substr(0, n) + whole;
}

std::string FieldOf(const orgtrail::v1::Event& event, std::string_view field) {
  if (field == "Account") return event.envelope().account();
  if (field == "Region") return event.envelope().region();
  if (field == "Agent") return event.envelope().agent();
  std::optional<Attribute> attribute = ParseAttribute(field);
  if (!attribute) return "";
  Scanned s(event.record());
  return s.ok ? FirstTerm(s.fields, *attribute) : "";
}

std::string Describe(const orgtrail::v1::Completeness& c) {
  std::string text = c.complete_to_ns() > 0 ? "complete to " + Rfc3339(absl::FromUnixNanos(c.complete_to_ns()), 3)
                                            : std::string("no agent has promised completeness yet");
  const auto join = [](const auto& list) {
    std::string out;
    int n = 0;
    for (const std::string& s : list) {
      if (++n > 5) {
        out += ", …";
        break;
      }
      out += (out.empty() ? "" : ", ") + s;
    }
    return out;
  };
  if (c.silent_agents_size() != 0) text += "; silent: " + join(c.silent_agents());
  if (c.losses_size() != 0) text += "; lost: " + join(c.losses());
  if (c.records_missing_size() != 0) text += "; missing since the log was restored: " + join(c.records_missing());
  if (c.quarantined_matches() != 0) text += "; " + std::to_string(c.quarantined_matches()) + " matches in quarantine";
  if (c.indexed_to() < c.tree_size()) text += "; " + std::to_string(c.tree_size() - c.indexed_to()) + " newest leaves not indexed yet";
  return text;
}

std::string CompletenessJson(const orgtrail::v1::Completeness& c) {
  std::string json = "{\"completeTo\":" + (c.complete_to_ns() > 0 ? Time(c.complete_to_ns()) : std::string("null"));
  json += ",\"silentAgents\":" + Strings(c.silent_agents());
  json += ",\"recordsMissing\":" + Strings(c.records_missing());
  json += ",\"losses\":" + Strings(c.losses()) + ",\"quarantinedMatches\":" + std::to_string(c.quarantined_matches());
  json += ",\"treeSize\":" + std::to_string(c.tree_size()) + ",\"indexedTo\":" + std::to_string(c.indexed_to()) + "}";
  return json;
}

}  // namespace orgtrail::client
