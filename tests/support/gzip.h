// Gzip: what gzip -6 makes of it, as one member (RFC 1952).
#pragma once

#include <zlib.h>

#include <string>
#include <string_view>

#include "common/base/status.h"

namespace orgtrail {

inline std::string Gzip(std::string_view plain) {
  z_stream z{};
  CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&z, plain.size()), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);   // the bound suffices
  out.resize(z.total_out);
  CHECK(deflateEnd(&z) == Z_OK);
  return out;
}

}  // namespace orgtrail
