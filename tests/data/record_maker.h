// RecordMaker: CloudTrail-shaped records that nobody ever sent. Same seed, same bytes.
//
// The mix (services, principals, reads and writes, errors, sizes) follows what organizations' trails look like: mostly reads by
// roles and services, a few people, one call in twenty refused. Names, addresses (RFC 5737) and accounts are invented.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace orgtrail::data {

struct Place {  // where an agent captures
  std::string account, region;
};

// splitmix64: small, seedable, the same on every machine.
class Seeded {
 public:
  explicit Seeded(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  uint64_t Below(uint64_t bound) { return Next() % bound; }  // the bias does not matter here

 private:
  uint64_t state_;
};

// What a call says beside who, when and where. Texts are JSON with <tokens> (record_maker.cc lists them).
struct Call {
  int weight = 0;                     // of 1000 or so; 0 in an incident
  std::string_view source, name;      // "s3.amazonaws.com", "GetObject"
  bool read_only = true;
  std::string_view request = "null", response = "null";
  std::string_view additional = "";   // members without the braces, or empty
  std::string_view resources = "";    // a JSON array, or empty
  std::string_view category = "Management", type = "AwsApiCall";
  bool global = false;                // the service records it in us-east-1, whatever the region
  std::string_view error_code = "", error_message = "";
};

// Who calls, from where, with what. Texts have <tokens> too.
struct Caller {
  int weight = 0;
  std::string_view identity;          // userIdentity
  std::string_view address, agent;    // sourceIPAddress, userAgent
};

class RecordMaker {
 public:
  // Records shorter than `size_bytes` are padded to it, longer ones lose what they can do without; 0: as they come.
  RecordMaker(uint64_t seed, size_t size_bytes);

  // The next ordinary record of that place, without a newline.
  std::string Ordinary(const Place& place, absl::Time when);
  // This call by this caller.
  std::string Make(const Call& call, const Caller& caller, const Place& place, absl::Time when);

 private:
  void Expand(std::string_view text, std::string* out);
  void Token(std::string_view token, std::string* out);
  void Pad(size_t have, std::string* out);
  uint64_t Pick(std::string_view token);  // the same within one record
  void Random(std::string_view alphabet, size_t n, std::string* out);

  Seeded rng_;
  const size_t size_bytes_;
  uint64_t record_ = 0;  // this record's own seed
  const Place* place_ = nullptr;
  const Call* call_ = nullptr;
  absl::Time when_;
  std::string identity_;  // of this record, for messages that name the caller
};

}  // namespace orgtrail::data
