// Members and elements of JSON that a Scanner has validated: walks the text, allocates nothing, keeps every byte as it stands.
//
// Bounds   linear in the text; no recursion. Text that was not validated may give nonsense, never reads outside it.
#pragma once

#include <string_view>

#include "common/json/scanner.h"

namespace orgtrail::json {

// The members of an object, in order:
//   MemberWalk walk(text);
//   for (Value key, value; walk.Next(&key, &value);) …      key is a string, still escaped: Text(key)
// Nothing when the text is not an object.
class MemberWalk {
 public:
  explicit MemberWalk(std::string_view object);
  bool Next(Value* key, Value* value);

 private:
  std::string_view rest_;
};

// The elements of an array likewise.
class ElementWalk {
 public:
  explicit ElementWalk(std::string_view array);
  bool Next(Value* element);

 private:
  std::string_view rest_;
};

// The whole text as one value.
Value Whole(std::string_view text);

}  // namespace orgtrail::json
