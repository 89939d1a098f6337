// One pass, bytes 16 at a time inside strings (SSE2, which every x86-64 has), one decision a token outside them.
#include "common/json/scanner.h"

#include <emmintrin.h>
#include <sys/auxv.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/json/unescape.h"

namespace orgtrail::json {
namespace {

constexpr size_t kMaxResources = 64;
constexpr size_t kMaxParameters = 128;
constexpr size_t kParameterDepth = 5;    // containers open around the deepest parameter, the record's own included
constexpr uint32_t kSmallObject = 32;  // keys of an object before it moves to the table

// Where a container stands, as far as fields are concerned.
enum class Place : uint8_t { kElsewhere, kTop, kUserIdentity, kSessionContext, kSessionIssuer, kResources, kResource, kParameters };

struct Slot {
  Value* value = nullptr;                 // where the member's value is noted; null: nowhere
  Place inside = Place::kElsewhere;       // what its container would be
};

template <size_t N>
bool Is(std::string_view key, const char (&name)[N]) {
  return std::memcmp(key.data(), name, N - 1) == 0;  // the caller has compared the length
}

Slot MatchTop(std::string_view key, Fields* f) {
  switch (key.size()) {
    case 7: return {Is(key, "eventID") ? &f->event_id : nullptr};
    case 8: return {Is(key, "readOnly") ? &f->read_only : nullptr};
    case 9:
      if (Is(key, "eventTime")) return {&f->event_time};
      if (Is(key, "eventName")) return {&f->event_name};
      if (Is(key, "eventType")) return {&f->event_type};
      if (Is(key, "awsRegion")) return {&f->aws_region};
      if (Is(key, "errorCode")) return {&f->error_code};
      if (Is(key, "resources")) return {nullptr, Place::kResources};
      return {};
    case 11: return {Is(key, "eventSource") ? &f->event_source : nullptr};
    case 12:
      if (Is(key, "userIdentity")) return {nullptr, Place::kUserIdentity};
      return {Is(key, "eventVersion") ? &f->event_version : nullptr};
    case 13:
      if (Is(key, "eventCategory")) return {&f->event_category};
      return {Is(key, "sharedEventID") ? &f->shared_event_id : nullptr};
    case 15:
      if (Is(key, "sourceIPAddress")) return {&f->source_ip};
      return {Is(key, "managementEvent") ? &f->management_event : nullptr};
    case 16:
      if (Is(key, "responseElements")) return {&f->response_elements, Place::kParameters};
      return {};
    case 17:
      if (Is(key, "requestParameters")) return {&f->request_parameters, Place::kParameters};
      return {};
    case 18: return {Is(key, "recipientAccountId") ? &f->recipient_account : nullptr};
    default: return {};
  }
}

Slot MatchUserIdentity(std::string_view key, Fields* f) {
  switch (key.size()) {
    case 3: return {Is(key, "arn") ? &f->identity_arn : nullptr};
    case 4: return {Is(key, "type") ? &f->identity_type : nullptr};
    case 8: return {Is(key, "userName") ? &f->identity_user_name : nullptr};
    case 9:
      if (Is(key, "accountId")) return {&f->identity_account};
      return {Is(key, "invokedBy") ? &f->identity_invoked_by : nullptr};
    case 11:
      if (Is(key, "principalId")) return {&f->identity_principal};
      return {Is(key, "accessKeyId") ? &f->identity_access_key : nullptr};
    case 14: return {nullptr, Is(key, "sessionContext") ? Place::kSessionContext : Place::kElsewhere};
    default: return {};
  }
}

Slot MatchResource(std::string_view key, Fields* f) {
  Resource& r = f->resources.back();
  switch (key.size()) {
    case 3: return {Is(key, "ARN") ? &r.name : nullptr};
    case 4: return {Is(key, "type") ? &r.type : nullptr};
    case 9: return {Is(key, "ARNPrefix") && !r.name ? &r.name : nullptr};
    default: return {};
  }
}

Slot Match(Place place, std::string_view key, Fields* f) {
  switch (place) {
    case Place::kTop: return MatchTop(key, f);
    case Place::kUserIdentity: return MatchUserIdentity(key, f);
    case Place::kSessionContext:
      return {nullptr, key == "sessionIssuer" ? Place::kSessionIssuer : Place::kElsewhere};
    case Place::kSessionIssuer:
      if (key == "arn") return {&f->issuer_arn};
      return {key == "userName" ? &f->issuer_user_name : nullptr};
    case Place::kResource: return MatchResource(key, f);
    case Place::kParameters: return {nullptr, Place::kParameters};
    default: return {};
  }
}

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// 16 bytes of ones, then of zeros: loaded at 16 - n it keeps the first n bytes of a vector.
alignas(32) constexpr uint8_t kKeep[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

void Clear(Fields* f) {
  std::vector<Resource> resources = std::move(f->resources);
  std::vector<Parameter> parameters = std::move(f->parameters);
  resources.clear();
  parameters.clear();
  *f = Fields{};
  f->resources = std::move(resources);
  f->parameters = std::move(parameters);
}

}  // namespace

struct Scanner::Impl {
  struct Key {
    const char* data = nullptr;  // as it stands in the text
    uint32_t size = 0;
    bool escaped = false;
  };
  struct Level {
    bool object = false;
    Place place = Place::kElsewhere;
    Value* value = nullptr;       // noted when the container closes
    const char* open = nullptr;
    std::string_view name;        // of the member this container is, among parameters
    uint32_t keys = 0;            // so far in this object
    uint32_t base = 0;            // its first key in hashes/keys; all small objects open at once fit
    uint32_t serial = 0;          // of a large object: which keys in the table are its own
    uint64_t seen[4] = {};        // a bit for each hash so far: most keys are new, and this says so without a search
  };
  struct Entry {                  // of the table
    uint32_t scan = 0;            // which scan it belongs to; others are free places
    uint32_t serial = 0;
    uint64_t hash = 0;
    Key key;
  };

  Impl() {
    // The hash is keyed so that nobody can prepare keys that collide. The kernel hands every process 16 random bytes; what a
    // scan answers does not depend on them.
    uint64_t seed[2] = {0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93};
    if (const auto* random = reinterpret_cast<const char*>(getauxval(AT_RANDOM)); random != nullptr) {
      std::memcpy(seed, random, sizeof seed);
    }
    // Mixed, since those bytes also seed the stack protector and must not show.
    seed0 = Mix(seed[0] ^ 0xA0761D6478BD642F, seed[1] ^ 0xE7037ED1A0B428DB) | 1;
    seed1 = Mix(seed[1] ^ 0x8EBC6AF09C88C6E3, seed0 ^ 0x589965CC75374CC3) | 1;
  }

  Flaw Fail(Flaw what, const char* at) {
    where = at;
    return what;
  }

  // First byte at or after p that ends plain ASCII text of a string: quote, backslash, control, or not ASCII.
  const char* SkipPlain(const char* p) const {
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
    const auto special = [&](__m128i v) {
      // Signed comparison: bytes from 0x80 are negative, so one instruction finds them together with controls.
      return static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(
          _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash)), _mm_cmplt_epi8(v, space))));
    };
    for (; end - p >= 16; p += 16) {
      const uint32_t mask = special(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      if (mask != 0) return p + __builtin_ctz(mask);
    }
    for (; p != end; ++p) {
      const auto c = static_cast<signed char>(*p);
      if (c < ' ' || c == '"' || c == '\\') return p;
    }
    return end;
  }

  // From the byte after the opening quote to the closing quote; null when the string is flawed (flaw and where are set).
  const char* StringEnd(const char* p, bool* escaped) {
    p = SkipPlain(p);
    if (p != end && *p == '"') [[likely]] return p;
    return StringEndSlow(p, escaped);
  }

  [[gnu::noinline]] const char* StringEndSlow(const char* p, bool* escaped) {
    while (p != end) {
      const auto c = static_cast<uint8_t>(*p);
      if (c == '"') return p;
      if (c >= 0x80) {
        do {
          const size_t n = Utf8Length(p, end);
          if (n == 0) return flaw = Fail(Flaw::kUtf8, p), nullptr;
          p += n;
        } while (p != end && static_cast<uint8_t>(*p) >= 0x80);
      } else if (c == '\\') {
        *escaped = true;
        p = EscapeEnd(p);
        if (p == nullptr) return nullptr;
      } else {
        return flaw = Fail(Flaw::kSyntax, p), nullptr;  // a raw control character
      }
      p = SkipPlain(p);
    }
    return flaw = Fail(Flaw::kSyntax, end), nullptr;
  }

  const char* EscapeEnd(const char* p) {
    if (end - p < 2) return flaw = Fail(Flaw::kSyntax, end), nullptr;
    switch (p[1]) {
      case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't': return p + 2;
      case 'u': break;
      default: return flaw = Fail(Flaw::kSyntax, p), nullptr;
    }
    const int unit = HexUnit(p + 2, end);
    if (unit < 0) return flaw = Fail(Flaw::kSyntax, p), nullptr;
    if (unit < 0xD800 || unit > 0xDFFF) return p + 6;
    if (unit < 0xDC00 && end - p >= 8 && p[6] == '\\' && p[7] == 'u') {
      const int low = HexUnit(p + 8, end);
      if (low >= 0xDC00 && low <= 0xDFFF) return p + 12;
    }
    return flaw = Fail(Flaw::kLoneSurrogate, p), nullptr;
  }

  // The byte after a number, null when flawed.
  const char* NumberEnd(const char* const start) {
    const char* p = start;
    if (*p == '-') ++p;
    if (p == end || !IsDigit(*p)) return flaw = Fail(Flaw::kSyntax, p), nullptr;
    if (*p == '0') {
      ++p;
    } else {
      while (p != end && IsDigit(*p)) ++p;
    }
    if (p != end && *p == '.') {
      ++p;
      if (p == end || !IsDigit(*p)) return flaw = Fail(Flaw::kSyntax, p), nullptr;
      while (p != end && IsDigit(*p)) ++p;
    }
    if (p != end && (*p == 'e' || *p == 'E')) {
      ++p;
      if (p != end && (*p == '+' || *p == '-')) ++p;
      if (p == end || !IsDigit(*p)) return flaw = Fail(Flaw::kSyntax, p), nullptr;
      while (p != end && IsDigit(*p)) ++p;
    }
    if (static_cast<size_t>(p - start) > limits::kJsonNumberBytes) return flaw = Fail(Flaw::kNumberLength, start), nullptr;
    return p;
  }

  // A byte where none of its kind may stand.
  Flaw Unexpected(const char* p) {
    if (p != end && static_cast<uint8_t>(*p) >= 0x80 && (Utf8Length(p, end) == 0 || Bom(p))) return Fail(Flaw::kUtf8, p);
    return Fail(Flaw::kSyntax, p);
  }
  bool Bom(const char* p) const { return end - p >= 3 && std::memcmp(p, "\xEF\xBB\xBF", 3) == 0; }

  uint64_t HashKey(const char* k, size_t n) const {
    if (n <= 16 && end - k >= 16) [[likely]] {
      const __m128i v = _mm_and_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(k)),
                                      _mm_loadu_si128(reinterpret_cast<const __m128i*>(kKeep + 16 - n)));
      const auto low = static_cast<uint64_t>(_mm_cvtsi128_si64(v));
      const auto high = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v)));
      return Mix(low ^ seed0, high ^ seed1 ^ n * 0x9E3779B97F4A7C15);
    }
    return HashLong(k, n);
  }

  // The same function of (bytes, size) as above for up to 16 bytes, chained for more.
  uint64_t HashLong(const char* k, size_t n) const {
    uint64_t chained = n * 0x9E3779B97F4A7C15;
    for (; n > 16; k += 16, n -= 16) {
      uint64_t word[2];
      std::memcpy(word, k, 16);
      chained = Mix(word[0] ^ seed0, word[1] ^ seed1 ^ chained);
    }
    uint64_t word[2] = {0, 0};
    std::memcpy(word, k, n);
    return Mix(word[0] ^ seed0, word[1] ^ seed1 ^ chained);
  }

  static bool SameKey(const Key& a, const Key& b) {
    if (!a.escaped && !b.escaped) return a.size == b.size && std::memcmp(a.data, b.data, a.size) == 0;
    char left[limits::kJsonKeyBytes], right[limits::kJsonKeyBytes];  // unescaping never lengthens
    const size_t n = Unescape({a.data, a.size}, left), m = Unescape({b.data, b.size}, right);
    return n == m && std::memcmp(left, right, n) == 0;
  }

  // Notes a key of the object; true when the object had it already.
  bool Repeats(Level& level, uint64_t hash, const Key& key) {
    const uint64_t bit = uint64_t{1} << (hash & 63);
    uint64_t& seen = level.seen[(hash >> 6) & 3];
    if (level.keys < kSmallObject) [[likely]] {
      if ((seen & bit) != 0) {
        for (uint32_t i = level.base; i != level.base + level.keys; ++i) {
          if (hashes[i] == static_cast<uint32_t>(hash >> 32) && SameKey(keys[i], key)) return true;
        }
      }
      seen |= bit;
      hashes[level.base + level.keys] = static_cast<uint32_t>(hash >> 32);
      keys[level.base + level.keys] = key;
      ++level.keys;
      return false;
    }
    return RepeatsLarge(level, hash, key);
  }

  [[gnu::noinline]] bool RepeatsLarge(Level& level, uint64_t hash, const Key& key) {
    if (level.keys == kSmallObject) {
      level.serial = ++serials;
      char plain[limits::kJsonKeyBytes];
      for (uint32_t i = level.base; i != level.base + level.keys; ++i) {
        const size_t n = keys[i].escaped ? Unescape({keys[i].data, keys[i].size}, plain) : keys[i].size;
        const uint64_t again = keys[i].escaped ? HashLong(plain, n) : HashLong(keys[i].data, n);
        if (Insert(level.serial, again, keys[i])) return true;
      }
    }
    ++level.keys;
    return Insert(level.serial, hash, key);
  }

  bool Insert(uint32_t serial, uint64_t hash, const Key& key) {
    if (2 * (filled + 1) > table.size()) Grow();
    const uint64_t mixed = Mix(hash ^ seed1, serial ^ seed0);
    for (size_t i = mixed & (table.size() - 1);; i = (i + 1) & (table.size() - 1)) {
      Entry& e = table[i];
      if (e.scan != scan) {
        e = Entry{scan, serial, mixed, key};
        ++filled;
        return false;
      }
      if (e.hash == mixed && e.serial == serial && SameKey(e.key, key)) return true;
    }
  }

  void Grow() {
    std::vector<Entry> old = std::move(table);
    table.assign(old.empty() ? 1024 : old.size() * 2, Entry{});
    for (const Entry& e : old) {
      if (e.scan != scan) continue;
      size_t i = e.hash & (table.size() - 1);
      while (table[i].scan == scan) i = (i + 1) & (table.size() - 1);
      table[i] = e;
    }
  }

  template <bool kFields, bool kKeys>
  Flaw Run(std::string_view text, Fields* fields);

  uint64_t seed0 = 0, seed1 = 0;
  const char* begin = nullptr;
  const char* end = nullptr;
  const char* where = nullptr;
  Flaw flaw = Flaw::kNone;
  std::array<Level, limits::kJsonDepth> levels;
  std::array<uint32_t, limits::kJsonDepth * kSmallObject> hashes;
  std::array<Key, limits::kJsonDepth * kSmallObject> keys;
  std::vector<Entry> table;      // a power of two; keys of large objects of all levels
  size_t filled = 0;
  uint32_t scan = 0, serials = 0;
};

template <bool kFields, bool kKeys>
Flaw Scanner::Impl::Run(std::string_view text, Fields* fields) {
  begin = text.data();
  end = begin + text.size();
  where = begin;
  flaw = Flaw::kNone;
  filled = 0;
  serials = 0;
  if (table.size() > size_t{1} << 16) table = {};  // one odd record does not hold megabytes for ever
  if (++scan == 0) {
    table.assign(table.size(), Entry{});
    scan = 1;
  }
  if (text.size() >= UINT32_MAX) return Fail(Flaw::kSyntax, begin);  // sizes are 32 bits wide; no caller comes near

  const char* p = begin;
  size_t depth = 0;              // open containers
  Slot slot;                     // of the value that comes next
  std::string_view name;         // the last key
  const char* start = nullptr;   // of the value just read
  Value::Type type = Value::Type::kAbsent;
  bool escaped = false;
  if (kFields) slot.inside = Place::kTop;
  if (Bom(p)) return Fail(Flaw::kUtf8, p);

#define ORGTRAIL_SKIP_SPACE() \
  while (p != end && static_cast<uint8_t>(*p) <= ' ' && IsSpace(*p)) ++p

value:
  ORGTRAIL_SKIP_SPACE();
value_here:
  if (p == end) return Fail(Flaw::kSyntax, p);
  start = p;
  escaped = false;
  switch (*p) {
    case '"': {
      const char* close = StringEnd(p + 1, &escaped);
      if (close == nullptr) return flaw;
      p = close + 1;
      type = Value::Type::kString;
      break;
    }
    case '{':
    case '[': {
      if (depth == limits::kJsonDepth) return Fail(Flaw::kDepth, p);
      const uint32_t base = depth == 0 ? 0 : levels[depth - 1].base + std::min(levels[depth - 1].keys, kSmallObject);
      Level& level = levels[depth++];
      level.object = *p == '{';
      level.value = slot.value;
      level.place = slot.inside;
      level.open = p;
      level.keys = 0;
      level.base = base;
      level.seen[0] = level.seen[1] = level.seen[2] = level.seen[3] = 0;
      if (kFields) {
        // A place has its form: resources are an array, the others objects, parameters either.
        if (level.place == Place::kParameters) {
          level.name = name;
          if (depth > kParameterDepth) level.place = Place::kElsewhere;
        } else if (level.object == (level.place == Place::kResources)) {
          level.place = Place::kElsewhere;
        }
      }
      ++p;
      ORGTRAIL_SKIP_SPACE();
      if (p == end) return Fail(Flaw::kSyntax, p);
      if (level.object) {
        if (*p == '"') goto key;
        if (*p == '}') goto close;
        return Unexpected(p);
      }
      if (*p == ']') goto close;
      goto element;
    }
    case 't':
      if (end - p < 4 || std::memcmp(p, "true", 4) != 0) return Unexpected(p);
      p += 4;
      type = Value::Type::kTrue;
      break;
    case 'f':
      if (end - p < 5 || std::memcmp(p, "false", 5) != 0) return Unexpected(p);
      p += 5;
      type = Value::Type::kFalse;
      break;
    case 'n':
      if (end - p < 4 || std::memcmp(p, "null", 4) != 0) return Unexpected(p);
      p += 4;
      type = Value::Type::kNull;
      break;
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9': {
      const char* after = NumberEnd(p);
      if (after == nullptr) return flaw;
      p = after;
      type = Value::Type::kNumber;
      break;
    }
    default: return Unexpected(p);
  }
  if (kFields && slot.value != nullptr) {
    *slot.value = Value{type, escaped, std::string_view(start, static_cast<size_t>(p - start))};
  } else if (kFields && slot.inside == Place::kParameters && type == Value::Type::kString &&
             fields->parameters.size() < kMaxParameters) {
    fields->parameters.push_back({name, Value{type, escaped, std::string_view(start, static_cast<size_t>(p - start))}, depth == 2});
  }

after_value:
  if (depth == 0) goto done;
  {
    Level& level = levels[depth - 1];
    if (p != end && *p != ',' && *p != '}' && *p != ']') {
      ORGTRAIL_SKIP_SPACE();
    }
    if (p == end) return Fail(Flaw::kSyntax, p);
    if (*p == ',') {
      ++p;
      if (!level.object) {
        ORGTRAIL_SKIP_SPACE();
        goto element;
      }
      if (p != end && *p != '"') {
        ORGTRAIL_SKIP_SPACE();
      }
      if (p == end || *p != '"') return Unexpected(p);
      goto key;
    }
    if (*p != (level.object ? '}' : ']')) return Unexpected(p);
    goto close;
  }

element:
  slot = Slot{};
  if (kFields && levels[depth - 1].place == Place::kParameters) {
    slot.inside = Place::kParameters;
    name = levels[depth - 1].name;
  } else if (kFields && levels[depth - 1].place == Place::kResources && p != end && *p == '{' &&
      fields->resources.size() < kMaxResources) {
    fields->resources.emplace_back();
    slot.inside = Place::kResource;
  }
  goto value_here;

key: {
    Level& level = levels[depth - 1];
    escaped = false;
    const char* const k = p + 1;
    const char* const k_end = StringEnd(k, &escaped);
    if (k_end == nullptr) return flaw;
    const auto n = static_cast<size_t>(k_end - k);
    if (n > limits::kJsonKeyBytes) return Fail(Flaw::kKeyLength, p);
    if (!escaped) [[likely]] {
      if (kKeys && Repeats(level, HashKey(k, n), Key{k, static_cast<uint32_t>(n), false})) return Fail(Flaw::kDuplicateKey, p);
      if (kFields) {
        name = std::string_view(k, n);
        slot = level.place == Place::kElsewhere ? Slot{} : Match(level.place, name, fields);
      }
    } else {
      char plain[limits::kJsonKeyBytes];
      const size_t m = Unescape({k, n}, plain);
      if (kKeys && Repeats(level, HashLong(plain, m), Key{k, static_cast<uint32_t>(n), true})) {
        return Fail(Flaw::kDuplicateKey, p);
      }
      if (kFields) {
        name = std::string_view(k, n);
        slot = level.place == Place::kElsewhere ? Slot{} : Match(level.place, std::string_view(plain, m), fields);
      }
    }
    if (kFields && depth == 1) fields->empty = false;
    p = k_end + 1;
    if (p != end && *p != ':') {
      ORGTRAIL_SKIP_SPACE();
    }
    if (p == end || *p != ':') return Unexpected(p);
    ++p;
    goto value;
  }

close: {
    const Level& level = levels[--depth];
    ++p;
    if (kFields) {
      if (level.value != nullptr) {
        *level.value = Value{level.object ? Value::Type::kObject : Value::Type::kArray, false,
                             std::string_view(level.open, static_cast<size_t>(p - level.open))};
      }
      if (depth == 0) fields->close = static_cast<size_t>(p - 1 - begin);
    }
    goto after_value;
  }

done:
  ORGTRAIL_SKIP_SPACE();
#undef ORGTRAIL_SKIP_SPACE
  if (p != end) return Fail(Flaw::kTrailing, p);
  return Flaw::kNone;
}

Scanner::Scanner() : impl_(std::make_unique<Impl>()) {}
Scanner::~Scanner() = default;

Flaw Scanner::Scan(std::string_view text, Fields* fields) {
  Clear(fields);
  const Flaw flaw = impl_->Run<true, true>(text, fields);
  if (flaw != Flaw::kNone) return flaw;
  size_t first = 0;
  while (IsSpace(text[first])) ++first;
  return text[first] == '{' ? Flaw::kNone : impl_->Fail(Flaw::kNotObject, text.data() + first);
}

Flaw Scanner::Validate(std::string_view text, bool allow_duplicates) {
  return allow_duplicates ? impl_->Run<false, false>(text, nullptr) : impl_->Run<false, true>(text, nullptr);
}

size_t Scanner::offset() const { return static_cast<size_t>(impl_->where - impl_->begin); }

}  // namespace orgtrail::json
