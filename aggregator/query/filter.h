// Filter: which records a request asks for. Hashes find candidates, the record itself decides.
// Threads: one object, one thread (it reuses a scanner's memory).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregator/admit/address_term.h"
#include "aggregator/admit/terms.h"
#include "aggregator/ledger/leaf.h"
#include "common/base/cidr.h"
#include "common/json/scanner.h"

namespace orgtrail {

class Filter {
 public:
  static constexpr size_t kMaxConditions = 16;
  static constexpr size_t kMaxValueBytes = 4096;   // longer values are found by the 256 bytes the index holds
  // `attributes` are (key, value) pairs as people write them, all ANDed. InvalidArgument names the key and what is allowed.
  static absl::StatusOr<Filter> Make(const std::vector<std::pair<std::string, std::string>>& attributes);

  // Terms every match has; empty when only ranges (or nothing) are asked for.
  const std::vector<uint64_t>& terms() const { return terms_; }
  // The address terms one of which every match has.
  const std::optional<TermRange>& addresses() const { return addresses_; }
  // Without the record: whether row i of the leaf may match.
  bool MayMatch(const Leaf& leaf, size_t i) const;
  // Exact.
  bool Matches(const Leaf& leaf, size_t i);
  bool empty() const { return conditions_.empty(); }

 private:
  struct Condition {
    Attribute attribute;
    std::string value;
    std::optional<Cidr> range;
    bool absent = false;    // matches records without the attribute
  };
  std::vector<Condition> conditions_;
  std::vector<uint64_t> terms_;
  std::optional<TermRange> addresses_;
  std::unique_ptr<json::Scanner> scanner_ = std::make_unique<json::Scanner>();
  json::Fields fields_;
};

}  // namespace orgtrail
