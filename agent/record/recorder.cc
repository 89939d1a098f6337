#include "agent/record/recorder.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/json/padding.h"

namespace orgtrail {
namespace {

using json::Fields;
using json::Flaw;
using json::Value;

constexpr size_t kHeadBytes = 4096;       // of a chunked record, shown in its stub
constexpr size_t kCopiedBytes = 1024;     // longest value a stub repeats
constexpr size_t kFoundByBytes = limits::kIndexValueBytes + 4;   // of a longer text: more than the index holds, wherever a character ends

EventClass ClassOf(const Fields& f) {
  const auto is = [](const Value& v, std::string_view text) { return v.type == Value::Type::kString && v.text() == text; };
  if (f.event_category.type == Value::Type::kString) {
    if (is(f.event_category, "Data")) return EventClass::kData;
    if (is(f.event_category, "NetworkActivity")) return EventClass::kNetwork;
    if (is(f.event_category, "Insight")) return EventClass::kInsight;
    return EventClass::kManagement;
  }
  if (is(f.event_type, "AwsCloudTrailInsight")) return EventClass::kInsight;
  if (is(f.event_type, "AwsVpceEvent")) return EventClass::kNetwork;
  return f.management_event.type == Value::Type::kFalse ? EventClass::kData : EventClass::kManagement;
}

// The first bytes of a text, at most `most` and at least three fewer, cut between characters.
std::string_view Head(std::string_view text, size_t most) {
  if (text.size() <= most) return text;
  size_t n = most;
  while (n > most - 3 && (static_cast<uint8_t>(text[n]) & 0xC0) == 0x80) --n;
  return text.substr(0, n);
}

void AppendMember(std::string& out, std::string_view name, std::string_view json_value) {
  if (out.back() != '{') out += ',';
  out += '"';
  out += name;
  out += "\":";
  out += json_value;
}

}  // namespace

Recorder::Recorder(std::string account, std::string region, const Clock& clock, Rng& rng)
    : account_(std::move(account)), region_(std::move(region)), clock_(clock), rng_(rng) {}

const StampedRecord& Recorder::Stamp(std::string_view raw, const std::optional<WholeText>& whole) {
  CHECK(!whole.has_value() || raw.size() > limits::kRecordBytes);
  out_.flags = 0;
  out_.added = 0;
  missing_.clear();
  out_.chunks.clear();
  out_.padding_suspect = false;
  out_.flaw = scanner_.Scan(raw, &fields_);
  if (out_.flaw != Flaw::kNone) {
    fields_ = Fields{};
    out_.flags = kFlagWrapped;
  } else {
    out_.padding_suspect = json::PaddingSuspect(raw);
  }
  out_.event_class = ClassOf(fields_);

  if (raw.size() > limits::kRecordBytes) {
    AddMissing();
    return Stub(raw, whole ? *whole : WholeText{Sha256(raw), raw.size()}, true);
  }
  if (out_.flaw != Flaw::kNone) {
    Wrap(raw);
  } else if (fields_.event_time && fields_.aws_region && fields_.event_id && fields_.recipient_account) {
    out_.body = raw;
    out_.event_id = fields_.event_id.type == Value::Type::kString ? fields_.event_id.text() : std::string_view();
  } else {
    AddMissing();
    Insert(raw);
  }
  if (out_.body.size() <= limits::kRecordInlineBytes) return out_;
  for (size_t at = 0; at < out_.body.size(); at += limits::kChunkBytes) out_.chunks.emplace_back(out_.body.substr(at, limits::kChunkBytes));
  return Stub(out_.flaw == Flaw::kNone ? out_.body : raw, {Sha256(out_.body), out_.body.size()}, false);
}

// `,"eventTime":…` and so on for what the record lacks, in missing_; id_at_ is where the new event id stands in it.
void Recorder::AddMissing() {
  const auto add = [this](AddedMember member, std::string_view name, std::string_view text) {
    out_.added |= member;
    missing_ += ",\"";
    missing_ += name;
    missing_ += "\":";
    if (member == kAddedEventId) id_at_ = missing_.size() + 1;
    AppendJsonString(missing_, text);
  };
  if (!fields_.event_time) add(kAddedTime, "eventTime", Rfc3339(clock_.Wall()));
  if (!fields_.aws_region) add(kAddedRegion, "awsRegion", region_);
  if (!fields_.event_id) {
    id_ = Uuid::Random(rng_).ToString();
    add(kAddedEventId, "eventID", id_);
  }
  if (!fields_.recipient_account) add(kAddedAccount, "recipientAccountId", account_);
}

void Recorder::Insert(std::string_view raw) {
  const size_t comma = fields_.empty ? 1 : 0;  // `{}` takes no leading comma
  buffer_.assign(raw.substr(0, fields_.close));
  buffer_ += std::string_view(missing_).substr(comma);
  buffer_ += raw.substr(fields_.close);
  out_.body = buffer_;
  if ((out_.added & kAddedEventId) != 0) {
    out_.event_id = out_.body.substr(fields_.close + id_at_ - comma, id_.size());
  } else if (fields_.event_id.type == Value::Type::kString) {
    const std::string_view came = fields_.event_id.text();
    out_.event_id = out_.body.substr(static_cast<size_t>(came.data() - raw.data()), came.size());
  } else {
    out_.event_id = {};
  }
}

void Recorder::Wrap(std::string_view raw) {
  AddMissing();
  buffer_ = "{\"orgtrail:raw\":\"";
  buffer_ += Base64(raw);
  buffer_ += "\",\"why\":\"";
  buffer_ += json::FlawName(out_.flaw);
  buffer_ += '"';
  const size_t id_at = buffer_.size() + id_at_;
  buffer_ += missing_;
  buffer_ += '}';
  out_.body = buffer_;
  out_.event_id = out_.body.substr(id_at, id_.size());
}

const StampedRecord& Recorder::Stub(std::string_view shown, const WholeText& whole, bool truncated) {
  out_.flags |= kFlagBlob;
  std::string stub = "{\"orgtrail:blob\":{\"sha256\":\"";
  stub += Hex(whole.sha256.view());
  stub += "\",\"len\":";
  stub += std::to_string(whole.bytes);
  stub += ",\"chunks\":";
  stub += std::to_string(out_.chunks.size());
  stub += truncated ? ",\"truncated\":true" : ",\"truncated\":false";
  if (out_.padding_suspect) stub += ",\"padding\":true";
  const Value* const repeated[] = {&fields_.event_version, &fields_.event_source, &fields_.event_name, &fields_.event_category,
                                   &fields_.source_ip,     &fields_.error_code,   &fields_.read_only};
  const auto too_long = [](const Value* v) { return v->type == Value::Type::kString && v->raw.size() > kCopiedBytes; };
  if (std::any_of(std::begin(repeated), std::end(repeated), too_long)) stub += ",\"cut\":true";
  stub += ",\"head\":";
  AppendJsonString(stub, Head(shown, kHeadBytes));
  stub += '}';
  if (out_.flaw != Flaw::kNone) AppendMember(stub, "why", JsonString(json::FlawName(out_.flaw)));
  // What the record is found by. The record itself keeps a value that is too long to repeat.
  size_t id_at = 0, id_size = 0;
  const auto put = [&](std::string_view name, std::string_view json_value) {
    AppendMember(stub, name, json_value);
    if (name != "eventID" || json_value[0] != '"') return;
    id_at = stub.size() - json_value.size() + 1;
    id_size = json_value.size() - 2;
  };
  const auto copy = [&](std::string_view name, const Value& value) {
    if (too_long(&value)) return put(name, JsonString(Head(json::Text(value), kFoundByBytes)));
    if (value && value.raw.size() <= kCopiedBytes) put(name, value.raw);
  };
  const auto require = [&](std::string_view name, const Value& value, std::string_view stand_in) {
    if (value) put(name, value.raw.size() <= kCopiedBytes ? value.raw : JsonString(stand_in));  // absent: in missing_
  };
  copy("eventVersion", fields_.event_version);
  copy("eventSource", fields_.event_source);
  copy("eventName", fields_.event_name);
  copy("eventCategory", fields_.event_category);
  copy("sourceIPAddress", fields_.source_ip);
  copy("errorCode", fields_.error_code);
  copy("readOnly", fields_.read_only);
  require("eventTime", fields_.event_time, Rfc3339(clock_.Wall()));
  require("awsRegion", fields_.aws_region, region_);
  require("eventID", fields_.event_id, Uuid::Random(rng_).ToString());
  require("recipientAccountId", fields_.recipient_account, account_);
  if ((out_.added & kAddedEventId) != 0) {
    id_at = stub.size() + id_at_;
    id_size = id_.size();
  }
  stub += missing_;
  stub += '}';
  buffer_ = std::move(stub);
  out_.body = buffer_;
  out_.event_id = out_.body.substr(id_at, id_size);
  return out_;
}

}  // namespace orgtrail
