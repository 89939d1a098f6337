// What the files of this folder share about OpenSSL. Included only from common/crypto: nobody else knows which library it is.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace orgtrail {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using BioPtr = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using PkeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using MdCtxPtr = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;
using CipherCtxPtr = std::unique_ptr<EVP_CIPHER_CTX, Freed<EVP_CIPHER_CTX_free>>;

inline const unsigned char* Bytes(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
inline unsigned char* Bytes(char* p) { return reinterpret_cast<unsigned char*>(p); }

// Everything in OpenSSL's error queue of this thread as one line; the queue is empty afterwards.
std::string DrainErrors();
// Internal "what: <error queue>".
absl::Status OpensslError(std::string_view what);

// A BIO that reads `text` (which must outlive it), and one that collects what is written.
BioPtr ReadBio(std::string_view text);
BioPtr WriteBio();
std::string TextOf(BIO* written);

// PKCS#8 PEM, never asks for a passphrase: an encrypted key is an error.
absl::StatusOr<PkeyPtr> PrivateKeyFromPem(std::string_view pem);
std::string PrivateKeyToPem(EVP_PKEY* key);

}  // namespace orgtrail
