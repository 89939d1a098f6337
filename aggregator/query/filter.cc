#include "aggregator/query/filter.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

// Whether a record with this value was asked for. The index holds its first bytes: who asks for no more than those gets all that begin so.
bool IsAsked(std::string_view value, std::string_view asked, bool cut) {
  if (asked.size() < limits::kIndexValueBytes) return value == asked;
  if (asked.size() == limits::kIndexValueBytes) return value.starts_with(asked);
  return value == asked || (cut && value.size() > limits::kIndexValueBytes && asked.starts_with(value));
}

// A stub repeats the beginning of values that are too long for it; the record that it stands for is not looked at.
bool IsCutStub(const Row& row) {
  return (row.flags & kFlagBlob) != 0 && row.body.substr(0, row.body.find(",\"head\":")).find("\"cut\":true") != std::string_view::npos;
}

}  // namespace

absl::StatusOr<Filter> Filter::Make(const std::vector<std::pair<std::string, std::string>>& attributes) {
  if (attributes.size() > kMaxConditions) {
    return absl::InvalidArgumentError(absl::StrCat("at most ", kMaxConditions, " attributes, got ", attributes.size()));
  }
  Filter filter;
  for (const auto& [key, value] : attributes) {
    const std::optional<Attribute> attribute = ParseAttribute(key);
    if (!attribute.has_value() || *attribute == Attribute::kOwn) {
      return absl::InvalidArgumentError(absl::StrCat(
          "unknown attribute \"", key, "\": use EventId, EventName, ReadOnly, Username, ResourceType, ResourceName, EventSource, "
          "AccessKeyId, Account, Region, ErrorCode, SourceIp, Principal or HasError"));
    }
    if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("attribute ", key, " has no value"));
    if (value.size() > kMaxValueBytes) {
      return absl::InvalidArgumentError(absl::StrCat("attribute ", key, " has a value of ", value.size(), " bytes; at most ", kMaxValueBytes,
                                                       ": what is longer is found by its first ", limits::kIndexValueBytes, " bytes"));
    }
    if ((*attribute == Attribute::kReadOnly || *attribute == Attribute::kHasError) && value != "true" && value != "false") {
      return absl::InvalidArgumentError(absl::StrCat(key, " is true or false, not \"", value, "\""));
    }
    Condition condition = {*attribute, value, std::nullopt, false};
    char canonical[kIpTextBytes];
    if (*attribute == Attribute::kSourceIp) condition.value = CanonicalIp(condition.value, canonical);
    if (*attribute == Attribute::kSourceIp && value.find('/') != std::string::npos) {
      condition.range = ParseCidr(value);
      if (!condition.range.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat("SourceIp \"", value, "\" is no address range like 10.0.0.0/8 or 2001:db8::/32"));
      }
      const TermRange range = AddressTerms(*condition.range);
      if (!filter.addresses_.has_value()) filter.addresses_ = range;
      filter.addresses_ = {std::max(filter.addresses_->first, range.first), std::min(filter.addresses_->last, range.last)};
    } else if (*attribute == Attribute::kHasError && value == "false") {
      condition.absent = true;   // records without an error have no such term: only the record can tell
    } else {
      filter.terms_.push_back(TermHash(*attribute, condition.value));
    }
    filter.conditions_.push_back(std::move(condition));
  }
  return filter;
}

bool Filter::MayMatch(const Leaf& leaf, size_t i) const {
  const RowFacts& facts = leaf.facts[i];
  const auto begin = leaf.terms.begin() + facts.terms_begin, end = leaf.terms.begin() + facts.terms_end;
  const auto in_range = [this](uint64_t t) { return t >= addresses_->first && t <= addresses_->last; };
  return std::all_of(terms_.begin(), terms_.end(), [&](uint64_t t) { return std::find(begin, end, t) != end; }) &&
         (!addresses_.has_value() || std::any_of(begin, end, in_range));
}

bool Filter::Matches(const Leaf& leaf, size_t i) {
  const RowFacts& facts = leaf.facts[i];
  bool parsed = false;
  const bool cut = IsCutStub(leaf.events.rows[i]);
  std::vector<Term> terms;
  for (const Condition& c : conditions_) {
    if (c.attribute == Attribute::kAccount) {
      if (facts.account != c.value) return false;
      continue;
    }
    if (c.attribute == Attribute::kRegion) {
      if (facts.region != c.value) return false;
      continue;
    }
    if (!parsed) {
      parsed = true;
      if (leaf.events.rows[i].tombstone || scanner_->Scan(leaf.events.rows[i].body, &fields_) != json::Flaw::kNone) return false;
      terms = TermsOf(fields_);
    }
    const bool found = std::any_of(terms.begin(), terms.end(), [&](const Term& t) {
      if (t.attribute != c.attribute) return false;
      if (c.absent) return true;
      return c.range.has_value() ? c.range->Contains(t.value) : IsAsked(t.value, c.value, cut);
    });
    if (found == c.absent) return false;
  }
  return true;
}

}  // namespace orgtrail
