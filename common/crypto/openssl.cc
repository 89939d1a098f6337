#include "common/crypto/openssl.h"

#include "common/base/status.h"

namespace orgtrail {

std::string DrainErrors() {
  std::string text;
  const char* data = nullptr;
  int flags = 0;
  while (const unsigned long code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags)) {
    char line[256];
    ERR_error_string_n(code, line, sizeof line);
    if (!text.empty()) text += "; ";
    text += line;
    if ((flags & ERR_TXT_STRING) != 0 && data != nullptr && *data != '\0') {
      text += " (";
      text += data;
      text += ")";
    }
  }
  return text.empty() ? "OpenSSL gave no reason" : text;
}

absl::Status OpensslError(std::string_view what) {
  return absl::InternalError(std::string(what) + ": " + DrainErrors());
}

BioPtr ReadBio(std::string_view text) {
  BioPtr bio(BIO_new_mem_buf(text.empty() ? "" : text.data(), static_cast<int>(text.size())));
  CHECK(bio != nullptr);
  return bio;
}

BioPtr WriteBio() {
  BioPtr bio(BIO_new(BIO_s_mem()));
  CHECK(bio != nullptr);
  return bio;
}

std::string TextOf(BIO* written) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(written, &data);
  return size > 0 ? std::string(data, static_cast<size_t>(size)) : std::string();
}

absl::StatusOr<PkeyPtr> PrivateKeyFromPem(std::string_view pem) {
  if (pem.size() > (64 << 10)) return absl::InvalidArgumentError("a private key in PEM is at most 64 KiB");
  // OpenSSL would ask on the terminal for an encrypted key's passphrase.
  constexpr auto kNoPassphrase = [](char*, int, int, void*) -> int { return -1; };
  BioPtr bio = ReadBio(pem);
  PkeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, kNoPassphrase, nullptr));
  if (key == nullptr) {
    return absl::InvalidArgumentError("not an unencrypted private key in PEM (BEGIN PRIVATE KEY): " + DrainErrors());
  }
  return key;
}

std::string PrivateKeyToPem(EVP_PKEY* key) {
  BioPtr bio = WriteBio();
  CHECK(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  return TextOf(bio.get());
}

}  // namespace orgtrail
