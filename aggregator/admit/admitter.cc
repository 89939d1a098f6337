#include "aggregator/admit/admitter.h"

#include "aggregator/admit/terms.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/json/padding.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

using json::Value;

bool Carries(std::string_view carries, std::string_view account) {
  if (carries == "any") return true;
  while (!carries.empty()) {
    const size_t comma = carries.find(',');
    if (carries.substr(0, comma) == account) return true;
    if (comma == std::string_view::npos) break;
    carries.remove_prefix(comma + 1);
  }
  return false;
}

// A name a row may be filed under: a plain string, not empty, within bounds.
bool IsPlainName(const Value& v) {
  return v.type == Value::Type::kString && !v.escaped && !v.text().empty() && v.text().size() <= limits::kNameBytes;
}

bool BlobIsPadding(std::string_view stub) {
  return stub.substr(0, stub.find(",\"head\":")).find("\"padding\":true") != std::string_view::npos;
}

class Digits {
 public:
  explicit Digits(std::string_view text) : rest_(text) {}
  int Number(size_t n) {  // -1 and not ok when they are not there
    int v = 0;
    if (rest_.size() < n) return Bad();
    for (size_t i = 0; i < n; ++i) {
      if (rest_[i] < '0' || rest_[i] > '9') return Bad();
      v = v * 10 + (rest_[i] - '0');
    }
    rest_.remove_prefix(n);
    return v;
  }
  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void Need(char c) {
    if (!Take(c)) ok_ = false;
  }
  bool IsDigit() const { return !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && rest_.empty(); }

 private:
  int Bad() {
    ok_ = false;
    return -1;
  }
  std::string_view rest_;
  bool ok_ = true;
};

// Days from 1970-01-01 to a date of the Gregorian calendar; years start in March so that leap days come last.
int64_t DaysFromEpoch(int year, int month, int day) {
  const int y = month > 2 ? year : year - 1;
  const int64_t era = y / 400, of_era = y % 400;
  const int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

}  // namespace

std::optional<int64_t> ParseEventTime(std::string_view text) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  Digits in(text);
  const int year = in.Number(4);
  in.Need('-');
  const int month = in.Number(2);
  in.Need('-');
  const int day = in.Number(2);
  in.Need('T');
  const int hour = in.Number(2);
  in.Need(':');
  const int minute = in.Number(2);
  in.Need(':');
  const int second = in.Number(2);
  if (!in.ok() || year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 60) {
    return std::nullopt;
  }
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (day > kDays[month - 1] + (month == 2 && leap ? 1 : 0)) return std::nullopt;
  int64_t nanos = 0;
  if (in.Take('.')) {
    if (!in.IsDigit()) return std::nullopt;
    for (int64_t unit = 100'000'000; in.IsDigit(); unit /= 10) nanos += unit * in.Number(1);  // past nanoseconds: ignored
  }
  int64_t offset = 0;
  if (!in.Take('Z')) {
    const bool west = in.Take('-');
    if (!west) in.Need('+');
    const int hours = in.Number(2);
    in.Need(':');
    const int minutes = in.Number(2);
    if (hours > 23 || minutes > 59) return std::nullopt;
    offset = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
  }
  if (!in.done()) return std::nullopt;
  const int64_t seconds = DaysFromEpoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
  if (seconds < 0) return std::nullopt;  // an offset may lead to the evening before 1970
  return seconds * 1'000'000'000 + nanos;
}

Admitter::Admitter() = default;
Admitter::~Admitter() = default;

void Admitter::Admit(std::string_view carries, Leaf& leaf) {
  leaf.facts.clear();
  leaf.terms.clear();
  leaf.facts.reserve(leaf.events.rows.size());
  leaf.terms.reserve(leaf.events.rows.size() * 20);
  for (const Row& row : leaf.events.rows) {
    RowFacts facts;
    facts.event_time_ns = static_cast<int64_t>(row.wall_ns);
    facts.account = leaf.header.account;
    facts.region = leaf.header.region;
    facts.terms_begin = static_cast<uint32_t>(leaf.terms.size());
    if (row.tombstone) {
      facts.notes |= kNoteTombstone;
    } else if (row.event_class != static_cast<uint16_t>(EventClass::kChunk)) {
      AdmitRecord(carries, row, facts, leaf.terms);
    }
    leaf.terms.push_back(TermHash(Attribute::kAccount, facts.account));
    leaf.terms.push_back(TermHash(Attribute::kRegion, facts.region));
    facts.terms_end = static_cast<uint32_t>(leaf.terms.size());
    leaf.facts.push_back(facts);
  }
}

void Admitter::AdmitRecord(std::string_view carries, const Row& row, RowFacts& facts, std::vector<uint64_t>& terms) {
  if ((row.flags & kFlagWrapped) != 0) facts.notes |= kNoteWrapped;
  if ((row.flags & kFlagBlob) != 0) {
    facts.notes |= kNoteBlob;
    if (BlobIsPadding(row.body)) facts.notes |= kNotePadding;
  }
  if (scanner_.Scan(row.body, &fields_) != json::Flaw::kNone) {
    // An agent of ours wraps such a text. Whoever signed this one gets it stored and seen for what it is.
    facts.notes |= kNoteWrapped | kNoteTimeOdd;
    return;
  }
  if (json::PaddingSuspect(row.body)) facts.notes |= kNotePadding;

  std::optional<int64_t> time;
  if (fields_.event_time.type == Value::Type::kString) time = ParseEventTime(fields_.event_time.text());
  if (time.has_value()) {
    facts.event_time_ns = *time;
  } else {
    facts.notes |= kNoteTimeOdd;
  }

  if (IsPlainName(fields_.recipient_account) && Carries(carries, fields_.recipient_account.text())) {
    facts.account = fields_.recipient_account.text();
    if (IsPlainName(fields_.aws_region)) facts.region = fields_.aws_region.text();
  } else if (fields_.recipient_account.type == Value::Type::kString || fields_.recipient_account.type == Value::Type::kNumber) {
    if (json::Text(fields_.recipient_account, scratch_) != facts.account) facts.notes |= kNoteAccountMismatch;
  }
  AppendTermHashes(fields_, &terms);
}

absl::StatusOr<std::shared_ptr<Leaf>> InflateLeaf(std::string bytes, std::string_view carries, ZstdDecompressor& zstd,
                                                  Admitter& admitter) {
  auto leaf = std::make_shared<Leaf>();
  leaf->bytes = std::move(bytes);
  if (!std::string_view(leaf->bytes).starts_with("OTF1")) {
    leaf->hash = LeafHash(leaf->bytes);
    return leaf;
  }
  ASSIGN_OR_RETURN(const FrameView frame, FrameView::Decode(leaf->bytes));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(frame.entry));
  leaf->is_batch = true;
  leaf->hash = LeafHash(frame.entry);
  leaf->header = std::move(entry.header);
  if (frame.bodies_gone) {
    leaf->events = GoneEvents(leaf->header, *frame.bodies_gone);
  } else {
    ASSIGN_OR_RETURN(leaf->events, InflateFrame(frame, zstd));
  }
  admitter.Admit(carries, *leaf);
  return leaf;
}

}  // namespace orgtrail
