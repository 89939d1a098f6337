// CallSeeds: seeds of a target whose input is one call: which, who makes it, the request.
#pragma once

#include <google/protobuf/message_lite.h>

#include <string>
#include <vector>

namespace orgtrail::fuzz {

struct CallSeeds {
  void Add(char which, char who, const google::protobuf::MessageLite& request) { all.push_back(std::string{which, who} + request.SerializeAsString()); }
  std::vector<std::string> all;
};

}  // namespace orgtrail::fuzz
