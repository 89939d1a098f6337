#include "common/format/token.h"

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr std::string_view kPrefix = "ot1.";
constexpr size_t kPartChars = 43;  // base64url of 32 bytes, without padding
constexpr size_t kTokenChars = kPrefix.size() + kPartChars + 1 + kPartChars;

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("join token: ", ToAbsl(what)));
}

}  // namespace

std::string JoinToken::Encode() const {
  CHECK(secret.size() == 32);
  return std::string(kPrefix) + Base64Url(secret) + "." + Base64Url(ca_spki.view());
}

std::string JoinToken::Id() const { return Hex(SecretHash().view().substr(0, 8)); }

Hash JoinToken::SecretHash() const { return Sha256(secret); }

absl::StatusOr<JoinToken> JoinToken::Decode(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  if (text.empty()) return Invalid("it is empty; paste the whole line that 'orgtrail agent token' printed");
  if (!text.starts_with("ot")) return Invalid("it does not start with 'ot1.'; paste the line that 'orgtrail agent token' printed");
  if (!text.starts_with(kPrefix)) {
    return Invalid("its version is not ot1; the agent and the aggregator that made it differ, update the agent");
  }
  if (text.find("ot1.", kPrefix.size()) != std::string_view::npos && text.size() > kTokenChars) {
    return Invalid("it was pasted twice; keep one copy");
  }
  if (text.size() < kTokenChars) {
    return Invalid(absl::StrCat("it is cut short: ", text.size(), " of ", kTokenChars, " characters"));
  }
  if (text.size() > kTokenChars) {
    return Invalid(absl::StrCat("it is too long: ", text.size(), " characters, expected ", kTokenChars));
  }
  if (text[kPrefix.size() + kPartChars] != '.') return Invalid("its two parts are not separated by a dot; copy it again");
  const std::optional<std::string> secret = Unbase64Url(text.substr(kPrefix.size(), kPartChars));
  const std::optional<std::string> spki = Unbase64Url(text.substr(kPrefix.size() + kPartChars + 1));
  if (!secret || secret->size() != 32) return Invalid("the part before the last dot is damaged; copy it again");
  if (!spki || spki->size() != 32) return Invalid("the part behind the last dot is damaged; copy it again");
  JoinToken token;
  token.secret = *secret;
  token.ca_spki = Hash::From(*spki);
  return token;
}

}  // namespace orgtrail
