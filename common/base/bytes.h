// Big-endian integers on disk and on the wire. Every multi-byte integer orgtrail writes is unsigned and big-endian.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace orgtrail {

inline void PutU16(std::string& out, uint16_t v) {
  const char b[2] = {static_cast<char>(v >> 8), static_cast<char>(v)};
  out.append(b, sizeof b);
}
inline void PutU32(std::string& out, uint32_t v) {
  const uint32_t be = __builtin_bswap32(v);
  char b[4];
  std::memcpy(b, &be, 4);
  out.append(b, sizeof b);
}
inline void PutU64(std::string& out, uint64_t v) {
  const uint64_t be = __builtin_bswap64(v);
  char b[8];
  std::memcpy(b, &be, 8);
  out.append(b, sizeof b);
}
inline uint16_t GetU16(const char* p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return __builtin_bswap16(v);
}
inline uint32_t GetU32(const char* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return __builtin_bswap32(v);
}
inline uint64_t GetU64(const char* p) {
  uint64_t v;
  std::memcpy(&v, p, 8);
  return __builtin_bswap64(v);
}

// Reads a byte string front to back. After any read past the end ok() is false, reads return zero values, and nothing
// further is consumed; so a decoder reads everything and asks once.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  uint8_t U8() { return Need(1) ? static_cast<uint8_t>(Take(1)[0]) : uint8_t{0}; }
  uint16_t U16() { return Need(2) ? GetU16(Take(2).data()) : uint16_t{0}; }
  uint32_t U32() { return Need(4) ? GetU32(Take(4).data()) : 0; }
  uint64_t U64() { return Need(8) ? GetU64(Take(8).data()) : 0; }
  std::string_view Bytes(size_t n) { return Need(n) ? Take(n) : std::string_view(); }
  std::string_view Short() { return Bytes(U8()); }  // u8 length, then that many bytes

  bool ok() const { return ok_; }
  bool Done() const { return ok_ && rest_.empty(); }  // everything consumed and nothing missing
  size_t left() const { return rest_.size(); }

 private:
  bool Need(size_t n) {
    if (ok_ && rest_.size() >= n) return true;
    ok_ = false;
    return false;
  }
  std::string_view Take(size_t n) {
    std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace orgtrail
