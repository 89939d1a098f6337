#include "tests/support/certificates.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "common/base/status.h"
#include "common/crypto/certificate.h"
#include "common/crypto/openssl.h"

namespace orgtrail::testing {
namespace {

PkeyPtr NewKey(const std::string& kind) {
  if (kind == "RSA-512" || kind == "RSA-2048") {
    return PkeyPtr(EVP_RSA_gen(kind == "RSA-512" ? 512u : 2048u));
  }
  if (kind == "ED25519") return PkeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (kind == "explicit") {
    EVP_PKEY_CTX* const ctx = EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr);
    char group[] = "P-256", encoding[] = "explicit";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                                 OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, encoding, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_PKEY* key = nullptr;
    CHECK(EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1 && EVP_PKEY_generate(ctx, &key) == 1);
    EVP_PKEY_CTX_free(ctx);
    return PkeyPtr(key);
  }
  return PkeyPtr(EVP_EC_gen(kind.c_str()));
}

void Add(X509* cert, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX ctx;
  X509V3_set_ctx(&ctx, issuer, cert, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &ctx, nid, value.c_str());
  CHECK(extension != nullptr && X509_add_ext(cert, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

}  // namespace

std::string OddLeafPem(const CaCertificate& ca, const std::string& key_pem, const OddLeaf& leaf) {
  const X509Ptr issuer = CertificateFromPem(ca.cert_pem).value();
  const PkeyPtr ca_key = PrivateKeyFromPem(ca.key_pem).value();
  const PkeyPtr key = PrivateKeyFromPem(key_pem).value();
  const X509Ptr cert(X509_new());
  X509_set_version(cert.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 4242);
  ASN1_TIME_set(X509_getm_notBefore(cert.get()), absl::ToTimeT(leaf.not_before));
  ASN1_TIME_set(X509_getm_notAfter(cert.get()), absl::ToTimeT(leaf.not_after));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("odd"), -1, -1, 0);
  X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer.get()));
  X509_set_pubkey(cert.get(), key.get());
  Add(cert.get(), issuer.get(), NID_basic_constraints, leaf.basic_constraints);
  Add(cert.get(), issuer.get(), NID_key_usage, leaf.key_usage);
  Add(cert.get(), issuer.get(), NID_authority_key_identifier, "keyid:always");
  std::string names;
  for (const std::string& uri : leaf.uris) names += (names.empty() ? "URI:" : ",URI:") + uri;
  for (const std::string& name : leaf.dns) names += (names.empty() ? "DNS:" : ",DNS:") + name;
  if (!names.empty()) Add(cert.get(), issuer.get(), NID_subject_alt_name, names);
  CHECK(X509_sign(cert.get(), ca_key.get(), EVP_sha256()) > 0);
  BioPtr bio = WriteBio();
  CHECK(PEM_write_bio_X509(bio.get(), cert.get()) == 1);
  return TextOf(bio.get());
}

std::string OddCsrPem(const OddCsr& csr) {
  const PkeyPtr key = NewKey(csr.key);
  CHECK(key != nullptr);
  X509_REQ* const req = X509_REQ_new();
  X509_REQ_set_version(req, X509_REQ_VERSION_1);
  X509_REQ_set_pubkey(req, key.get());
  X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("root"), -1, -1, 0);
  STACK_OF(X509_EXTENSION)* const extensions = sk_X509_EXTENSION_new_null();
  for (const auto& [name, value] : csr.extensions) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, nullptr, nullptr, req, nullptr, 0);
    X509_EXTENSION* const extension = X509V3_EXT_conf(nullptr, &ctx, name.c_str(), value.c_str());
    CHECK(extension != nullptr);
    sk_X509_EXTENSION_push(extensions, extension);
  }
  if (!csr.extensions.empty()) CHECK(X509_REQ_add_extensions(req, extensions) == 1);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  const PkeyPtr other = NewKey(csr.key);
  const EVP_MD* const digest = csr.key == "ED25519" ? nullptr : EVP_get_digestbyname(csr.digest.c_str());
  if (X509_REQ_sign(req, csr.wrong_signature ? other.get() : key.get(), digest) <= 0) {
    CheckFailed(__FILE__, __LINE__, (csr.key + " " + csr.digest).c_str(), DrainErrors());
  }
  BioPtr bio = WriteBio();
  CHECK(PEM_write_bio_X509_REQ(bio.get(), req) == 1);
  X509_REQ_free(req);
  return TextOf(bio.get());
}

}  // namespace orgtrail::testing
