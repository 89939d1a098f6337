// Status: how everything the world does is reported. CHECK is for what we did wrong, and stays on in release.
//
// Codes carry the caller's next move: InvalidArgument (malformed) · DataLoss (hash, signature or CRC differs) ·
// FailedPrecondition (gap in chain) · ResourceExhausted (full, later) · Unavailable (peer gone, retry) ·
// PermissionDenied · NotFound · Internal (ours, or a library's).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace orgtrail {

// Prefixes the message with where it happened, once, where that is known: Annotate(status, "spool /var/lib/x").
absl::Status Annotate(const absl::Status& status, std::string_view context);

// "INVALID_ARGUMENT: message" without Abseil's payloads; for people.
std::string Describe(const absl::Status& status);

[[noreturn]] void CheckFailed(const char* file, int line, const char* what, std::string_view detail);

}  // namespace orgtrail

#define ORGTRAIL_CONCAT_INNER(a, b) a##b
#define ORGTRAIL_CONCAT(a, b) ORGTRAIL_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                                  \
  do {                                                         \
    if (::absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) ASSIGN_OR_RETURN_IMPL(ORGTRAIL_CONCAT(status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                          \
  if (!tmp.ok()) return tmp.status();         \
  lhs = std::move(tmp).value()

#define CHECK(cond)                                                             \
  do {                                                                          \
    if (!(cond)) [[unlikely]] ::orgtrail::CheckFailed(__FILE__, __LINE__, #cond, ""); \
  } while (false)

#define CHECK_OK(expr)                                                                          \
  do {                                                                                          \
    if (::absl::Status check_ = (expr); !check_.ok()) [[unlikely]]                              \
      ::orgtrail::CheckFailed(__FILE__, __LINE__, #expr, ::orgtrail::Describe(check_));         \
  } while (false)
