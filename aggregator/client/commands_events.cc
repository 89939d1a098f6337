#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "aggregator/admit/terms.h"
#include "aggregator/client/context.h"
#include "aggregator/client/envelope.h"
#include "aggregator/client/table.h"
#include "common/base/cidr.h"
#include "common/base/ids.h"
#include "common/base/nearest.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

constexpr uint64_t kDefaultMax = 50;
constexpr uint32_t kPage = 500;

struct LookupFlags {
  std::string account, region, start, end, last, principal, ip, resource, access_key, count_by, zone = "UTC";
  std::vector<std::string> attributes;
  bool writes = false, errors = false, own = false, quarantined = false, envelope = false;
  uint64_t max = 0;
};

absl::Status AddAttribute(const std::string& key, const std::string& value, pb::LookupRequest* request) {
  if (!ParseAttribute(key)) {
    const std::vector<std::string> known = {"EventId", "EventName", "ReadOnly", "Username", "ResourceType", "ResourceName", "EventSource",
                                            "AccessKeyId", "Account", "Region", "ErrorCode", "SourceIp", "Principal"};
    const std::string meant = Nearest(key, known);
    return absl::InvalidArgumentError("--attribute " + key + ": " + (meant.empty() ? "one of " + absl::StrJoin(known, ", ") : "did you mean " + meant + "?"));
  }
  pb::Attribute* a = request->add_attributes();
  a->set_key(key);
  a->set_value(value);
  return absl::OkStatus();
}

absl::StatusOr<pb::LookupRequest> RequestOf(const Context& context, const LookupFlags& f) {
  pb::LookupRequest request;
  for (const std::string& spec : f.attributes) {
    const size_t eq = spec.find('=');
    if (eq == std::string::npos) return absl::InvalidArgumentError("--attribute: KEY=VALUE, such as EventName=DeleteBucket");
    RETURN_IF_ERROR(AddAttribute(spec.substr(0, eq), spec.substr(eq + 1), &request));
  }
  const std::pair<const char*, const std::string*> simple[] = {
      {"Account", &f.account}, {"Region", &f.region}, {"Principal", &f.principal}, {"SourceIp", &f.ip},
      {"ResourceName", &f.resource}, {"AccessKeyId", &f.access_key}};
  for (const auto& [key, value] : simple) {
    if (!value->empty()) RETURN_IF_ERROR(AddAttribute(key, *value, &request));
  }
  if (!f.ip.empty() && !ParseCidr(f.ip)) {
    return absl::InvalidArgumentError("--ip " + f.ip + ": an address or a range, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32; what is no address "
                                      "(\"AWS Internal\") is found with -a SourceIp=…");
  }
  if (f.writes) RETURN_IF_ERROR(AddAttribute("ReadOnly", "false", &request));
  if (f.errors) RETURN_IF_ERROR(AddAttribute("HasError", "true", &request));
  const absl::Time now = context.clock.Wall();
  const auto time = [&](const char* flag, const std::string& text, int64_t* ns) -> absl::Status {
    absl::Time t;
    if (!ParseWhen(text, now, &t)) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, ": a time such as 2026-11-20T09:00:00Z, 2026-11-20, -2h, or now"));
    }
    *ns = absl::ToUnixNanos(t);
    return absl::OkStatus();
  };
  int64_t start = 0, end = 0;
  if (!f.last.empty()) {
    if (!f.start.empty()) return absl::InvalidArgumentError("--last and --start both say where to begin: give one");
    if (!time("--last", "-" + f.last, &start).ok()) return absl::InvalidArgumentError("--last " + f.last + ": a span such as 30m, 2h or 7d");
  }
  if (!f.start.empty()) RETURN_IF_ERROR(time("--start", f.start, &start));
  if (!f.end.empty()) RETURN_IF_ERROR(time("--end", f.end, &end));
  if (start != 0 && end != 0 && start > end) return absl::InvalidArgumentError("--start is after --end");
  request.set_start_ns(start);
  request.set_end_ns(end);
  request.set_include_own(f.own);
  request.set_include_quarantined(f.quarantined);
  return request;
}

// Whether another record has its event id and says something else.
bool IdReused(const pb::Event& e) {
  const auto& notes = e.envelope().notes();
  return std::find(notes.begin(), notes.end(), "EVENTID_REUSE") != notes.end();
}

void PrintEvents(const Context& context, const std::vector<pb::Event>& events, const pb::Completeness& completeness, bool envelope, const absl::TimeZone& zone) {
  switch (context.output()) {
    case Output::kTable: {
      Table table({"TIME", "ACCOUNT", "REGION", "WHO", "WHAT", "FROM", "ERROR", "EVENT ID"});
      for (const pb::Event& e : events) {
        EventLine l = LineOf(e, zone);
        table.Add({l.time, l.account, l.region, l.principal, l.event, l.source_ip, l.error, l.id + (IdReused(e) ? " (EVENTID_REUSE)" : "")});
      }
      std::printf("%s", table.Text(context.color()).c_str());
      break;
    }
    case Output::kJsonl:
      for (const pb::Event& e : events) {
        const std::string line = envelope ? EnvelopeJson(e) : e.record();
        if (line.empty()) continue;
        std::fwrite(line.data(), 1, line.size(), stdout);
        std::fputc('\n', stdout);
      }
      break;
    case Output::kJson:
      std::printf("{\"Records\":[");
      for (const char* between = ""; const pb::Event& e : events) {
        const std::string line = envelope ? EnvelopeJson(e) : e.record();
        if (line.empty()) continue;
        std::fputs(between, stdout);
        std::fwrite(line.data(), 1, line.size(), stdout);
        between = ",\n";
      }
      std::printf("],\"completeness\":%s}\n", CompletenessJson(completeness).c_str());
      break;
  }
  const auto gone = std::count_if(events.begin(), events.end(), [](const pb::Event& e) { return e.record().empty(); });
  if (gone > 0 && !envelope && context.output() != Output::kTable) {
    std::fprintf(stderr, "orgtrail: %td records have no body any more and are left out; --envelope shows where they were\n", gone);
  }
}

absl::Status Lookup(Context& context, const LookupFlags& f) {
  ASSIGN_OR_RETURN(pb::LookupRequest request, RequestOf(context, f));
  absl::TimeZone zone;
  if (!absl::LoadTimeZone(f.zone, &zone)) return absl::InvalidArgumentError("--tz " + f.zone + ": a zone such as UTC or Europe/Berlin");
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  const bool counting = !f.count_by.empty();
  const std::vector<std::string> fields = absl::StrSplit(f.count_by, ',', absl::SkipEmpty());
  for (const std::string& field : fields) {
    if (field != "Agent" && !ParseAttribute(field)) return absl::InvalidArgumentError("--count-by " + field + ": an attribute, such as EventName,Username");
  }
  uint64_t left = f.max != 0 ? f.max : (counting ? UINT64_MAX : kDefaultMax);
  std::map<std::vector<std::string>, uint64_t> counts;
  std::vector<pb::Event> events;
  pb::Completeness completeness;
  bool more = false;
  uint64_t seen = 0;
  for (;;) {
    request.set_max_results(static_cast<uint32_t>(std::min<uint64_t>(left, kPage)));
    ASSIGN_OR_RETURN(pb::LookupResponse page, rpc->Lookup(request));
    completeness = page.completeness();
    seen += static_cast<uint64_t>(page.events_size());
    for (pb::Event& e : *page.mutable_events()) {
      if (counting) {
        std::vector<std::string> key;
        for (const std::string& field : fields) key.push_back(FieldOf(e, field));
        counts[key] += std::max<uint32_t>(1, e.envelope().copies());
      } else {
        events.push_back(std::move(e));
      }
    }
    left -= std::min<uint64_t>(left, static_cast<uint64_t>(page.events_size()));
    more = !page.next_page_token().empty();
    if (!more || left == 0) break;
    request.set_page_token(page.next_page_token());
    if (!counting && context.output() == Output::kJsonl) {
      PrintEvents(context, events, completeness, f.envelope, zone);
      events.clear();
    }
    if (counting && isatty(STDERR_FILENO)) std::fprintf(stderr, "\r%llu records", static_cast<unsigned long long>(seen));
  }
  if (counting) {
    if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\x1b[K");
    std::vector<std::pair<std::vector<std::string>, uint64_t>> rows(counts.begin(), counts.end());
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    std::vector<std::string> header = fields;
    header.insert(header.begin(), "COUNT");
    Table table(header);
    std::vector<std::string> objects;
    for (const auto& [key, n] : rows) {
      std::vector<std::string> row = key;
      row.insert(row.begin(), HumanCount(static_cast<double>(n)));
      for (std::string& cell : row) cell = Shortened(std::move(cell));
      table.Add(std::move(row));
      std::string& json = objects.emplace_back("{\"count\":" + std::to_string(n));
      for (size_t i = 0; i < fields.size(); ++i) json += "," + JsonString(fields[i]) + ":" + JsonString(key[i]);
      json += "}";
    }
    switch (context.output()) {
      case Output::kTable:
        std::printf("%s", table.Text(context.color()).c_str());
        break;
      case Output::kJsonl:
        for (const std::string& o : objects) std::printf("%s\n", o.c_str());
        break;
      case Output::kJson:
        std::printf("{\"Counts\":[%s],\"completeness\":%s}\n", absl::StrJoin(objects, ",\n").c_str(), CompletenessJson(completeness).c_str());
        break;
    }
  } else {
    PrintEvents(context, events, completeness, f.envelope, zone);
  }
  if (context.output() == Output::kTable || isatty(STDERR_FILENO)) {
    std::fflush(stdout);  // what follows is about the rows above it
    if (seen == 0) std::fprintf(stderr, "no match\n");
    if (more) std::fprintf(stderr, "more match: --max %llu shows more of them\n", static_cast<unsigned long long>(seen < 50 ? 200 : seen * 4));
    std::fprintf(stderr, "%s\n", Describe(completeness).c_str());
  }
  return absl::OkStatus();
}

absl::Status Show(Context& context, const std::string& id, const std::string& at, bool proof, bool envelope) {
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  pb::GetEventRequest request;
  request.set_event_id(id);
  RETURN_IF_ERROR(SetAt(at, &request));
  ASSIGN_OR_RETURN(pb::GetEventResponse answer, rpc->GetEvent(request));
  if (answer.events_size() == 0) {
    return absl::NotFoundError("no record with event id " + id + " (" + Describe(answer.completeness()) + ")");
  }
  if (answer.events_size() > 1) {
    std::fprintf(stderr, "orgtrail: %d records have that event id%s; pick one with --at:\n", answer.events_size(),
                 IdReused(answer.events(0)) ? " and they do not say the same (EVENTID_REUSE)" : ", all with the same bytes");
    for (const pb::Event& e : answer.events()) {
      EventLine l = LineOf(e, absl::UTCTimeZone());
      std::fprintf(stderr, "  --at %llu:%u   %s %s %s %s\n", static_cast<unsigned long long>(e.envelope().leaf_index()),
                   e.envelope().event_index(), l.time.c_str(), l.account.c_str(), Printable(l.event).c_str(), Printable(l.principal).c_str());
    }
    context.exit_code = kFailed;
    return absl::OkStatus();
  }
  const pb::Event& e = answer.events(0);
  if (context.output() != Output::kTable) {
    PrintEvents(context, {e}, answer.completeness(), envelope, absl::UTCTimeZone());
  } else {
    const pb::Envelope& v = e.envelope();
    std::printf("%s\n", e.record().empty() ? BodyGone(v).c_str() : e.record().c_str());
    std::printf("\naccount    %s   region %s\nagent      %s (%s/%s), epoch %llu, batch %llu, sequence %llu\n", Printable(v.account()).c_str(),
                Printable(v.region()).c_str(), v.agent().c_str(), (v.agent_account().empty() ? v.account() : v.agent_account()).c_str(),
                (v.agent_region().empty() ? v.region() : v.agent_region()).c_str(),
                static_cast<unsigned long long>(v.epoch()), static_cast<unsigned long long>(v.batch_seq()), static_cast<unsigned long long>(v.seq()));
    std::printf("captured   %s (agent's clock)\nlogged     %s (aggregator's clock), leaf %llu, event %u\n",
                Rfc3339(absl::FromUnixNanos(v.captured_ns()), 6).c_str(), Rfc3339(absl::FromUnixNanos(v.logged_ns()), 6).c_str(),
                static_cast<unsigned long long>(v.leaf_index()), v.event_index());
    if (v.added_members_size() != 0) std::printf("added      %s (by the agent, before hashing)\n", absl::StrJoin(v.added_members(), ", ").c_str());
    if (!v.posted_by().empty()) std::printf("posted by  %s\n", Printable(v.posted_by()).c_str());
    if (v.notes_size() != 0) std::printf("notes      %s\n", absl::StrJoin(v.notes(), ", ").c_str());
  }
  if (proof) {
    pb::GetEventProofRequest proof_request;
    proof_request.set_event_id(id);
    proof_request.set_at_set(true);
    proof_request.set_leaf_index(e.envelope().leaf_index());
    proof_request.set_event_index(e.envelope().event_index());
    ASSIGN_OR_RETURN(pb::EventProofResponse p, rpc->EventProof(proof_request));
    std::printf("%s%s", context.output() == Output::kTable ? "\n" : "", p.proof().c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvents(CLI::App& app, Context& context) {
  CLI::App* events = app.add_subcommand("events", "Who did what: look records up");
  events->require_subcommand(1);
  auto f = std::make_shared<LookupFlags>();
  CLI::App* lookup = events->add_subcommand("lookup", "Records that match everything given, newest first");
  lookup->add_option("--account", f->account, "In this account");
  lookup->add_option("--region", f->region, "In this region");
  lookup->add_option("--attribute,-a", f->attributes, "KEY=VALUE, exact: EventId, EventName, ReadOnly, Username, ResourceType, ResourceName, EventSource, AccessKeyId, ErrorCode, SourceIp, Principal; repeat to AND");
  lookup->add_option("--principal", f->principal, "Who: user name, ARN, principal id or role session");
  lookup->add_option("--ip", f->ip, "From this address or range: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32");
  lookup->add_option("--resource", f->resource, "Touching this resource: name or ARN");
  lookup->add_option("--access-key", f->access_key, "With this access key id");
  lookup->add_flag("--writes", f->writes, "Only what changes something (ReadOnly=false)");
  lookup->add_flag("--errors", f->errors, "Only what failed");
  lookup->add_option("--start", f->start, "eventTime at or after: RFC 3339, a date, or -2h");
  lookup->add_option("--end", f->end, "eventTime at or before");
  lookup->add_option("--last", f->last, "The last 30m, 2h, 7d");
  lookup->add_option("--max", f->max, "At most this many; default 50");
  lookup->add_option("--count-by", f->count_by, "Count instead of list: EventName or EventName,Username, …");
  lookup->add_option("--tz", f->zone, "Zone of the table's times")->capture_default_str();
  lookup->add_flag("--own", f->own, "orgtrail's own records too (alarms, reads, losses)");
  lookup->add_flag("--quarantined", f->quarantined, "What is kept apart too: of agents whose identity was used twice; --envelope says which");
  lookup->add_flag("--envelope", f->envelope, "With -o json or jsonl: wrap each record with where it came from");
  lookup->footer("Examples:\n  orgtrail events lookup --last 2h --writes --principal ivy\n"
                 "  orgtrail events lookup -a EventName=PutBucketPolicy -o jsonl\n"
                 "  orgtrail events lookup --last 24h --errors --count-by ErrorCode,Username\n\n"
                 "Each lookup is itself recorded before rows are returned.\n");
  lookup->callback([f, &context] { context.Run([&] { return Lookup(context, *f); }); });

  struct ShowFlags {
    std::string id, at;
    bool proof = false, envelope = false;
  };
  auto s = std::make_shared<ShowFlags>();
  CLI::App* show = events->add_subcommand("show", "One record in full");
  show->add_option("event-id", s->id, "The record's eventID")->required();
  show->add_option("--at", s->at, "LEAF:EVENT, when an event id is not unique");
  show->add_flag("--proof", s->proof, "Its proof too, as `orgtrail prove` writes it");
  show->add_flag("--envelope", s->envelope, "With -o json or jsonl: wrap it with where it came from");
  show->callback([s, &context] { context.Run([&] { return Show(context, s->id, s->at, s->proof, s->envelope); }); });
}

}  // namespace orgtrail::client
