#include "common/json/members.h"

#include <algorithm>

namespace orgtrail::json {
namespace {

void SkipSpace(std::string_view* rest) {
  const size_t at = rest->find_first_not_of(" \t\r\n");
  rest->remove_prefix(at == std::string_view::npos ? rest->size() : at);
}

// Bytes of the string at the front, quotes included.
size_t StringSize(std::string_view text, bool* escaped) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return i + 1;
    if (text[i] == '\\') {
      *escaped = true;
      ++i;
    }
  }
  return text.size();
}

size_t NestedSize(std::string_view text) {
  size_t depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '{': case '[': ++depth; break;
      case '}': case ']':
        if (--depth == 0) return i + 1;
        break;
      case '"': {
        bool escaped = false;
        i += StringSize(text.substr(i), &escaped) - 1;
        break;
      }
      default: break;
    }
  }
  return text.size();
}

// Takes the value at the front; Absent at the end of the text.
Value Take(std::string_view* rest) {
  SkipSpace(rest);
  Value value;
  if (rest->empty()) return value;
  size_t size = 0;
  switch (rest->front()) {
    case '"':
      value.type = Value::Type::kString;
      size = StringSize(*rest, &value.escaped);
      break;
    case '{':
    case '[':
      value.type = rest->front() == '{' ? Value::Type::kObject : Value::Type::kArray;
      size = NestedSize(*rest);
      break;
    default:
      value.type = rest->front() == 't' ? Value::Type::kTrue : rest->front() == 'f' ? Value::Type::kFalse
                   : rest->front() == 'n' ? Value::Type::kNull : Value::Type::kNumber;
      size = std::min(rest->size(), rest->find_first_of(" \t\r\n,:]}"));
      break;
  }
  if (size == 0) return Value();  // punctuation where a value is due
  value.raw = rest->substr(0, size);
  rest->remove_prefix(size);
  return value;
}

// The text behind an opening bracket, or nothing.
std::string_view Inside(std::string_view text, char open) {
  SkipSpace(&text);
  return text.empty() || text.front() != open ? std::string_view() : text.substr(1);
}

// Whether another member or element follows; the comma between two is consumed.
bool More(std::string_view* rest) {
  SkipSpace(rest);
  if (!rest->empty() && rest->front() == ',') {
    rest->remove_prefix(1);
    SkipSpace(rest);
  }
  return !rest->empty() && rest->front() != '}' && rest->front() != ']';
}

}  // namespace

MemberWalk::MemberWalk(std::string_view object) : rest_(Inside(object, '{')) {}

bool MemberWalk::Next(Value* key, Value* value) {
  if (!More(&rest_)) return false;
  *key = Take(&rest_);
  SkipSpace(&rest_);
  if (key->type != Value::Type::kString || rest_.empty() || rest_.front() != ':') return false;
  rest_.remove_prefix(1);
  *value = Take(&rest_);
  return value->type != Value::Type::kAbsent;
}

ElementWalk::ElementWalk(std::string_view array) : rest_(Inside(array, '[')) {}

bool ElementWalk::Next(Value* element) {
  if (!More(&rest_)) return false;
  *element = Take(&rest_);
  return element->type != Value::Type::kAbsent;
}

Value Whole(std::string_view text) { return Take(&text); }

}  // namespace orgtrail::json
