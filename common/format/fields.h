// The fields that several formats write alike. For the encoders and decoders of this folder.
#pragma once

#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/digest.h"

namespace orgtrail {

// 32 bytes; a null hash when the reader has run out, as its ok() says.
inline Hash TakeHash(ByteReader& in) {
  const std::string_view bytes = in.Bytes(32);
  return bytes.size() == 32 ? Hash::From(bytes) : Hash{};
}

// u8 length, then the text; the caller has checked that it is at most 255 bytes. ByteReader::Short reads it.
inline void PutShort(std::string& out, std::string_view text) {
  CHECK(text.size() <= 255);
  out.push_back(static_cast<char>(text.size()));
  out.append(text);
}

}  // namespace orgtrail
