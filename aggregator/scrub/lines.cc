#include "aggregator/scrub/lines.h"

#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kEntering = "entering", kAt = "at", kFound = "found", kLacking = "lacking";

std::string Number(uint64_t n) { return std::to_string(n); }

}  // namespace

ScrubLine ScrubLine::Entering(uint32_t shard, std::string file) {
  ScrubLine line;
  line.kind = Kind::kEntering;
  line.shard = shard;
  line.file = std::move(file);
  return line;
}

ScrubLine ScrubLine::At(uint64_t leaf, uint64_t leaves, uint64_t read_bytes) {
  ScrubLine line;
  line.kind = Kind::kAt;
  line.leaf = leaf;
  line.leaves = leaves;
  line.read_bytes = read_bytes;
  return line;
}

ScrubLine ScrubLine::Found(Finding finding) {
  ScrubLine line;
  line.kind = Kind::kFound;
  line.finding = std::move(finding);
  return line;
}

ScrubLine ScrubLine::Lacking(uint64_t leaf, bool is_bodiless) {
  ScrubLine line;
  line.kind = Kind::kLacking;
  line.leaf = leaf;
  line.is_bodiless = is_bodiless;
  return line;
}

std::string ScrubLine::Encode() const {
  std::string line;
  const auto add = [&](std::string_view field) {
    if (!line.empty()) line += '\t';
    line += Printable(field);
  };
  switch (kind) {
    case Kind::kEntering:
      add(kEntering), add(Number(shard)), add(file);
      break;
    case Kind::kAt:
      add(kAt), add(Number(leaf)), add(Number(leaves)), add(Number(read_bytes));
      break;
    case Kind::kFound:
      add(kFound), add(Number(finding.leaf)), add(finding.file), add(finding.what), add(finding.remedy);
      break;
    case Kind::kLacking:
      add(kLacking), add(Number(leaf)), add(Number(is_bodiless ? 1 : 0));
      break;
  }
  return line + "\n";
}

std::optional<ScrubLine> ScrubLine::Decode(std::string_view text) {
  const std::vector<std::string> fields = absl::StrSplit(ToAbsl(text), '\t');
  std::vector<uint64_t> numbers;
  for (size_t i = 1; i < fields.size(); ++i) {
    const std::optional<uint64_t> number = ParseUint(fields[i]);
    if (!number.has_value()) break;
    numbers.push_back(*number);
  }
  if (fields.size() == 3 && fields[0] == kEntering && !numbers.empty() && numbers[0] <= UINT32_MAX) {
    return Entering(static_cast<uint32_t>(numbers[0]), fields[2]);
  }
  if (fields.size() == 4 && fields[0] == kAt && numbers.size() == 3) return At(numbers[0], numbers[1], numbers[2]);
  if (fields.size() == 5 && fields[0] == kFound && !numbers.empty()) return Found(Finding{numbers[0], fields[2], fields[3], fields[4]});
  if (fields.size() == 3 && fields[0] == kLacking && numbers.size() == 2 && numbers[1] <= 1) return Lacking(numbers[0], numbers[1] == 1);
  return std::nullopt;
}

}  // namespace orgtrail
