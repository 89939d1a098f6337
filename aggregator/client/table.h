// Table: aligned columns for a terminal; text is made printable, long cells are cut. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace orgtrail::client {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}
  void Add(std::vector<std::string> row);
  std::string Text(bool color) const;   // empty when there are no rows
  size_t rows() const { return rows_.size(); }

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

std::string HumanBytes(uint64_t bytes);            // 1.2 MiB
std::string HumanCount(double n);                  // 12,345
std::string HumanAge(double seconds);              // 3 s, 5 min, 2 h, 4 d
std::string Paint(bool color, const char* code, std::string_view text);  // code "1;31"

}  // namespace orgtrail::client
