// The record scanner: its own promises, and against simdjson, which must call the same texts JSON. It may differ where docs/formats/record.md
// says so: numbers a double cannot hold, a member's name twice, depth, long names and numbers, half a surrogate pair.
#include <simdjson.h>

#include <cstdlib>

#include "common/json/padding.h"
#include "common/json/scanner.h"
#include "tests/fuzz/target.h"

namespace {

using orgtrail::json::Fields;
using orgtrail::json::Flaw;
using orgtrail::json::Scanner;
using orgtrail::json::Value;

void Require(bool held) {
  if (!held) std::abort();
}

bool Inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

void Check(std::string_view text) {
  static Scanner scanner;
  Fields f;
  const Flaw flaw = scanner.Scan(text, &f);
  Require(scanner.offset() <= text.size());
  const Flaw strict = scanner.Validate(text, false), lax = scanner.Validate(text, true);
  Require(flaw == Flaw::kNotObject ? strict == Flaw::kNone : flaw == strict);
  Require(strict != Flaw::kNone || lax == Flaw::kNone);
  Require(lax == strict || strict == Flaw::kDuplicateKey);
  if (flaw == Flaw::kNone) {
    Require(f.close < text.size() && text[f.close] == '}');
    std::string scratch;
    for (const Value* v : {&f.event_time, &f.event_name, &f.event_id, &f.identity_arn, &f.issuer_arn, &f.request_parameters}) {
      if (!*v) continue;
      Require(Inside(v->raw, text));
      // A value cut out of a good text is itself good.
      Require(scanner.Validate(v->raw, false) == Flaw::kNone);
      Require(orgtrail::json::Text(*v, scratch).size() <= v->raw.size());
    }
    for (const auto& p : f.parameters) Require(Inside(p.value.raw, text) && Inside(p.name, text));
    // What the recorder does: a member before the last brace keeps a record a record.
    std::string longer(text);
    longer.insert(f.close, f.empty ? "\"orgtrail:fuzz\":1" : ",\"orgtrail:fuzz\":1");
    const Flaw after = scanner.Scan(longer, &f);
    Require(after == Flaw::kNone || (after == Flaw::kDuplicateKey && text.find("fuzz") != std::string_view::npos));
    orgtrail::json::PaddingSuspect(text);
  }
  std::vector<std::string_view> records;
  if (orgtrail::json::SplitRecords(text, &records)) {
    for (std::string_view r : records) Require(!r.empty() && Inside(r, text));
  }
}

void Differ(std::string_view text) {
  if (text.size() > 1 << 20 || text.find_first_not_of(" \t\r\n") == std::string_view::npos) return;
  static Scanner scanner;
  static simdjson::dom::parser parser;   // depth 1,024
  const Flaw ours = scanner.Validate(text, /*allow_duplicates=*/true);
  const simdjson::error_code theirs = parser.parse(simdjson::padded_string(text)).error();
  switch (theirs) {
    case simdjson::SUCCESS:
      // Bounds of ours it does not have.
      Require(ours == Flaw::kNone || ours == Flaw::kDepth || ours == Flaw::kKeyLength || ours == Flaw::kNumberLength ||
              ours == Flaw::kLoneSurrogate);
      return;
    case simdjson::NUMBER_ERROR:         // 1e400, or none at all
      return;
    case simdjson::DEPTH_ERROR:
      Require(ours != Flaw::kNone);
      return;
    default:
      // simdjson 3.0 takes a lone surrogate for an error of the string; so do we, by another name.
      Require(ours != Flaw::kNone);
  }
}

}  // namespace

namespace orgtrail::fuzz {

std::vector<std::string> Seeds() { return {}; }

void One(std::string_view in) {
  Check(in);
  Differ(in);
}

}  // namespace orgtrail::fuzz
