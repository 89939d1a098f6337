// MemoryBound: how much a program under test may use, in the build at hand.
#pragma once

#include <cstdint>

namespace orgtrail::e2e {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

// A sanitizer keeps shadows of what is used and holds back what was freed: there the bound is only one against growth without end.
constexpr int64_t MemoryBound(int64_t bytes) { return kSanitized ? bytes * 8 + (int64_t{1} << 30) : bytes; }

}  // namespace orgtrail::e2e
