// libFuzzer target, and a replay of its corpus when built without libFuzzer (ORGTRAIL_FUZZ_REPLAY).
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#ifdef ORGTRAIL_FUZZ_REPLAY
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#endif

#include "common/json/padding.h"
#include "common/json/scanner.h"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Check(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}

#ifdef ORGTRAIL_FUZZ_REPLAY
int main(int argc, char** argv) {
  size_t n = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& file : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(file.path(), std::ios::binary);
      const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      for (size_t cut = 0; cut <= text.size(); ++cut) {
        const std::vector<char> exact(text.begin(), text.begin() + static_cast<ptrdiff_t>(cut));
        Check({exact.data(), exact.size()});
      }
      ++n;
    }
  }
  std::cout << n << " corpus files, each at every length\n";
  return n == 0 ? 1 : 0;
}
#endif
