// Scanner: one pass of RFC 8259 over the whole text of a record: grammar, UTF-8, duplicate keys at every depth, depth, number
// and key length, and the fields orgtrail needs. Numbers stay text: 1e400 is fine. Never allocates per value, never recurses.
//
// Threads  one Scanner, one thread (it reuses its memory). Text must outlive the Fields, which view it.
// Bounds   depth 64, key 1 KiB, linear time for any input (duplicate keys are found by hash, hash floods included).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace orgtrail::json {

enum class Flaw : uint8_t {  // why a text is not a record; the name goes into "why" of a wrapped record
  kNone,
  kSyntax,         // SYNTAX
  kUtf8,           // UTF8: not UTF-8, or a byte order mark
  kDuplicateKey,   // DUP_KEY
  kDepth,          // DEPTH
  kKeyLength,      // KEY_LENGTH
  kNumberLength,   // NUMBER_LENGTH: token of more than 64 characters
  kLoneSurrogate,  // SURROGATE: \ud800 without its half
  kNotObject,      // NOT_OBJECT
  kTrailing,       // TRAILING: bytes after the value
};
std::string_view FlawName(Flaw flaw);

// A member's value as it stands in the text. `raw` includes quotes; `text` is what is between them (still escaped).
struct Value {
  enum class Type : uint8_t { kAbsent, kString, kNumber, kTrue, kFalse, kNull, kObject, kArray };
  Type type = Type::kAbsent;
  bool escaped = false;      // a string with backslashes: Unescape before comparing
  std::string_view raw;
  std::string_view text() const { return type == Type::kString ? raw.substr(1, raw.size() - 2) : raw; }
  explicit operator bool() const { return type != Type::kAbsent; }
};
// A string value unescaped (the view itself when nothing is escaped, else `scratch` is filled); other types: the raw text.
std::string_view Text(const Value& value, std::string& scratch);
std::string Text(const Value& value);

// What admission and the index need from a CloudTrail record (docs: CloudTrail record contents).
struct Resource {
  Value type, name;  // resources[].type and resources[].ARN (or ARNPrefix)
};
struct Parameter {
  std::string_view name;  // as it stands in the text
  Value value;            // a string
  bool top = false;       // a member of requestParameters or responseElements itself
};
struct Fields {
  Value event_time, event_version, event_source, event_name, aws_region, source_ip, error_code, event_id, read_only,
      recipient_account, event_category, event_type, management_event, shared_event_id;
  Value identity_type, identity_principal, identity_arn, identity_account, identity_access_key, identity_user_name,
      identity_invoked_by, issuer_arn, issuer_user_name;  // userIdentity.…; issuer: sessionContext.sessionIssuer.…
  Value request_parameters, response_elements;            // whole
  std::vector<Parameter> parameters;                      // at most 128: the strings in those two, up to four levels down, each
                                                          // under its member's name; strings of an array under the array's
  std::vector<Resource> resources;                        // at most 64
  size_t close = 0;      // offset of the last '}' of the record's object
  bool empty = true;     // the object has no members
};

class Scanner {
 public:
  Scanner();
  ~Scanner();
  // kNone: `fields` is filled (top-level duplicates cannot occur). Anything else: fields are unspecified.
  // offset() then says where it went wrong.
  Flaw Scan(std::string_view text, Fields* fields);
  // Grammar only: any JSON value, duplicates allowed or not.
  Flaw Validate(std::string_view text, bool allow_duplicates);
  size_t offset() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Elements of {"Records":[ … ]}: the exact bytes of each element. False if the text is not of that shape.
bool SplitRecords(std::string_view text, std::vector<std::string_view>* records);

}  // namespace orgtrail::json
