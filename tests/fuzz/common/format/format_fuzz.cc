// Built once per decoder: ORGTRAIL_FUZZ_TARGET names the one.
#include "tests/fuzz/common/format/decoders.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orgtrail::fuzz::ORGTRAIL_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
