#include "aggregator/client/table.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

constexpr size_t kCell = 80;

size_t Width(std::string_view text) {  // code points: near enough for a terminal
  size_t n = 0;
  for (char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

std::string Cut(std::string text) {
  if (Width(text) <= kCell) return text;
  size_t n = 0, i = 0;
  for (; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80 && ++n == kCell) break;
  }
  return text.substr(0, i) + "…";
}

}  // namespace

void Table::Add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = Cut(Printable(cell));
  row.resize(header_.size());
  rows_.push_back(std::move(row));
}

std::string Table::Text(bool color) const {
  if (rows_.empty()) return "";
  std::vector<size_t> widths;
  for (const std::string& h : header_) widths.push_back(Width(h));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells, const char* code) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      text += cells[i];
      if (i + 1 < cells.size()) text.append(widths[i] - Width(cells[i]) + 2, ' ');
    }
    out += code == nullptr ? text : Paint(color, code, text);
    out += '\n';
  };
  line(header_, "1");
  for (const auto& row : rows_) line(row, nullptr);
  return out;
}

std::string HumanBytes(uint64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double v = static_cast<double>(bytes);
  size_t u = 0;
  while (v >= 1024 && u + 1 < std::size(units)) v /= 1024, ++u;
  return u == 0 ? absl::StrFormat("%d B", bytes) : absl::StrFormat("%.1f %s", v, units[u]);
}

std::string HumanCount(double n) {
  const std::string digits = absl::StrFormat("%.0f", n);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += ',';
    out += digits[i];
  }
  return out;
}

std::string HumanAge(double s) {
  if (s < 0) s = 0;
  if (s < 1) return absl::StrFormat("%.0f ms", s * 1000);
  if (s < 100) return absl::StrFormat("%.0f s", s);
  if (s < 6000) return absl::StrFormat("%.0f min", s / 60);
  if (s < 172'800) return absl::StrFormat("%.0f h", s / 3600);
  return absl::StrFormat("%.0f d", s / 86'400);
}

std::string Paint(bool color, const char* code, std::string_view text) {
  std::string out;
  if (color) out = std::string("\x1b[") + code + "m";
  out += text;
  if (color) out += "\x1b[0m";
  return out;
}

}  // namespace orgtrail::client
