// Yaml: strict reading of one configuration file. Unknown keys, wrong types and impossible values are InvalidArgument that
// names file, line, key and what was expected. All errors are collected, so a person mends them in one go.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace orgtrail {

class YamlNode {  // one mapping (or list element); cheap to copy; valid while the YamlFile lives
 public:
  bool Has(std::string_view key) const;
  // Each reads `key` into *out when present (absent: *out keeps its default) and marks the key as known.
  void String(std::string_view key, std::string* out) const;
  void Bool(std::string_view key, bool* out) const;
  void Int(std::string_view key, int64_t* out, int64_t least, int64_t most) const;
  void Bytes(std::string_view key, uint64_t* out) const;          // 8GiB, 64MiB, 4096
  void Duration(std::string_view key, absl::Duration* out) const; // 30s, 24h, 7d
  void Percent(std::string_view key, double* out) const;          // 10% → 0.10
  void Strings(std::string_view key, std::vector<std::string>* out) const;
  YamlNode Map(std::string_view key) const;                       // an empty mapping when absent
  std::vector<YamlNode> List(std::string_view key) const;
  // Adds an error at `key`'s line (or the mapping's): for rules this class does not know.
  void Complain(std::string_view key, std::string_view expected) const;

 private:
  friend class YamlFile;
  struct State;
  std::shared_ptr<State> state_;
};

class YamlFile {
 public:
  static absl::StatusOr<YamlFile> Parse(std::string_view path, std::string_view text);
  YamlNode root() const;
  // After all reads: OK, or InvalidArgument with one line per error, first keys that nobody knows, then what is wrong, then what is missing and was not meant by an
  // unknown key: "agent.yaml:7: spool.max_byte: unknown key (did you mean max_bytes?)".
  absl::Status Finish() const;

 private:
  std::shared_ptr<YamlNode::State> root_;
};

// HOST:PORT with a port of at most 65535; an IPv6 address stands in brackets.
bool IsHostPort(std::string_view text);

}  // namespace orgtrail
