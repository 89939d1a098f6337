#include <cstring>

#include "common/json/scanner.h"
#include "common/json/unescape.h"

namespace orgtrail::json {

size_t Utf8Length(const char* p, const char* end) {
  const auto at = [p](size_t i) { return static_cast<uint8_t>(p[i]); };
  const auto more = [p, end](size_t i) { return end - p > static_cast<ptrdiff_t>(i) && (static_cast<uint8_t>(p[i]) & 0xC0) == 0x80; };
  const uint8_t c = at(0);
  if (c < 0x80) return 1;
  if (c < 0xC2 || c > 0xF4 || !more(1)) return 0;
  if (c < 0xE0) return 2;
  if (c < 0xF0) {
    if ((c == 0xE0 && at(1) < 0xA0) || (c == 0xED && at(1) > 0x9F)) return 0;
    return more(2) ? 3 : 0;
  }
  if ((c == 0xF0 && at(1) < 0x90) || (c == 0xF4 && at(1) > 0x8F)) return 0;
  return more(2) && more(3) ? 4 : 0;
}

int HexUnit(const char* p, const char* end) {
  if (end - p < 4) return -1;
  int unit = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    int digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      digit = (c | 0x20) - 'a' + 10;
    } else {
      return -1;
    }
    unit = unit * 16 + digit;
  }
  return unit;
}

size_t Unescape(std::string_view escaped, char* out) {
  const char* p = escaped.data();
  const char* const end = p + escaped.size();
  char* o = out;
  while (p != end) {
    const auto* backslash = static_cast<const char*>(std::memchr(p, '\\', static_cast<size_t>(end - p)));
    const char* stop = backslash == nullptr ? end : backslash;
    std::memcpy(o, p, static_cast<size_t>(stop - p));
    o += stop - p;
    p = stop;
    if (end - p < 2) break;
    switch (p[1]) {
      case 'b': *o++ = '\b'; break;
      case 'f': *o++ = '\f'; break;
      case 'n': *o++ = '\n'; break;
      case 'r': *o++ = '\r'; break;
      case 't': *o++ = '\t'; break;
      case 'u': {
        int c = HexUnit(p + 2, end);
        p += 4;
        if (c >= 0xD800 && c < 0xDC00 && end - p >= 8 && p[2] == '\\' && p[3] == 'u') {
          const int low = HexUnit(p + 4, end);
          if (low >= 0xDC00 && low <= 0xDFFF) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            p += 6;
          }
        }
        if (c < 0 || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
        if (c < 0x80) {
          *o++ = static_cast<char>(c);
        } else if (c < 0x800) {
          *o++ = static_cast<char>(0xC0 | c >> 6);
          *o++ = static_cast<char>(0x80 | (c & 63));
        } else if (c < 0x10000) {
          *o++ = static_cast<char>(0xE0 | c >> 12);
          *o++ = static_cast<char>(0x80 | (c >> 6 & 63));
          *o++ = static_cast<char>(0x80 | (c & 63));
        } else {
          *o++ = static_cast<char>(0xF0 | c >> 18);
          *o++ = static_cast<char>(0x80 | (c >> 12 & 63));
          *o++ = static_cast<char>(0x80 | (c >> 6 & 63));
          *o++ = static_cast<char>(0x80 | (c & 63));
        }
        break;
      }
      default: *o++ = p[1];  // quote, backslash, slash
    }
    p += 2;
  }
  return static_cast<size_t>(o - out);
}

std::string_view Text(const Value& value, std::string& scratch) {
  if (!value.escaped) return value.text();
  const std::string_view text = value.text();
  scratch.resize(text.size());
  scratch.resize(Unescape(text, scratch.data()));
  return scratch;
}

std::string Text(const Value& value) {
  std::string scratch;
  return std::string(Text(value, scratch));
}

std::string_view FlawName(Flaw flaw) {
  switch (flaw) {
    case Flaw::kNone: return "NONE";
    case Flaw::kSyntax: return "SYNTAX";
    case Flaw::kUtf8: return "UTF8";
    case Flaw::kDuplicateKey: return "DUP_KEY";
    case Flaw::kDepth: return "DEPTH";
    case Flaw::kKeyLength: return "KEY_LENGTH";
    case Flaw::kNumberLength: return "NUMBER_LENGTH";
    case Flaw::kLoneSurrogate: return "SURROGATE";
    case Flaw::kNotObject: return "NOT_OBJECT";
    case Flaw::kTrailing: return "TRAILING";
  }
  return "UNKNOWN";
}

namespace {

// Walks text without judging it: what is between the commas is for the scanner to accept or refuse, record by record.
class Splitter {
 public:
  explicit Splitter(std::string_view text) : p_(text.data()), end_(p_ + text.size()) {}

  bool Take(char c) {
    Space();
    if (p_ == end_ || *p_ != c) return false;
    ++p_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    Space();
    if (static_cast<size_t>(end_ - p_) < word.size() || std::memcmp(p_, word.data(), word.size()) != 0) return false;
    p_ += word.size();
    return true;
  }
  bool AtEnd() {
    Space();
    return p_ == end_;
  }
  // The bytes up to the comma or bracket that ends this element, without the spaces around them.
  bool Element(std::string_view* element) {
    Space();
    const char* const start = p_;
    size_t open = 0;
    for (; p_ != end_; ++p_) {
      switch (*p_) {
        case '"':
          if (!String()) return false;
          break;
        case '{': case '[': ++open; break;
        case '}': case ']':
          if (open == 0) return *p_ == ']' && Finish(start, element);
          --open;
          break;
        case ',':
          if (open == 0) return Finish(start, element);
          break;
        default: break;
      }
    }
    return false;
  }

 private:
  void Space() {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }
  bool Finish(const char* start, std::string_view* element) {
    const char* last = p_;
    while (last != start && (last[-1] == ' ' || last[-1] == '\n' || last[-1] == '\r' || last[-1] == '\t')) --last;
    *element = std::string_view(start, static_cast<size_t>(last - start));
    return last != start;
  }
  bool String() {  // leaves p_ on the closing quote
    for (++p_; p_ != end_; ++p_) {
      const auto* quote = static_cast<const char*>(std::memchr(p_, '"', static_cast<size_t>(end_ - p_)));
      if (quote == nullptr) return false;
      size_t backslashes = 0;
      while (quote - backslashes != p_ && quote[-1 - static_cast<ptrdiff_t>(backslashes)] == '\\') ++backslashes;
      p_ = quote;
      if (backslashes % 2 == 0) return true;
    }
    return false;
  }

  const char* p_;
  const char* const end_;
};

}  // namespace

bool SplitRecords(std::string_view text, std::vector<std::string_view>* records) {
  records->clear();
  Splitter in(text);
  if (!in.Take('{') || !in.TakeWord("\"Records\"") || !in.Take(':') || !in.Take('[')) return false;
  if (!in.Take(']')) {
    do {
      std::string_view element;
      if (!in.Element(&element)) return records->clear(), false;
      records->push_back(element);
    } while (in.Take(','));
    if (!in.Take(']')) return records->clear(), false;
  }
  if (!in.Take('}') || !in.AtEnd()) return records->clear(), false;
  return true;
}

}  // namespace orgtrail::json
