#include "common/crypto/x509.h"

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <utility>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/crypto/certificate.h"
#include "common/crypto/openssl.h"

namespace orgtrail {
namespace {

constexpr size_t kPemBytes = 64 << 10;  // a request or a chain; ours are 1 KiB
constexpr std::string_view kBeginRequest = "-----BEGIN CERTIFICATE REQUEST-----";

using ReqPtr = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;
using NamePtr = std::unique_ptr<GENERAL_NAME, Freed<GENERAL_NAME_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreCtxPtr = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, Freed<BN_free>>;

absl::Status AddExtension(X509* cert, X509* issuer, int nid, const char* value) {
  X509V3_CTX ctx;
  X509V3_set_ctx(&ctx, issuer, cert, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &ctx, nid, value));
  if (extension == nullptr || X509_add_ext(cert, extension.get(), -1) != 1) return OpensslError("add certificate extension");
  return absl::OkStatus();
}

absl::Status SetCommonName(X509_NAME* name, std::string_view common_name) {
  const std::string_view cut = common_name.substr(0, 64);  // X.520's upper bound
  if (X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, Bytes(cut), static_cast<int>(cut.size()), -1, 0) != 1) {
    return OpensslError("set certificate subject");
  }
  return absl::OkStatus();
}

absl::Status SetValidity(X509* cert, absl::Time from, absl::Time to) {
  if (from >= to) return absl::InvalidArgumentError("a certificate must end after it begins");
  if (ASN1_TIME_set(X509_getm_notBefore(cert), absl::ToTimeT(from)) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(cert), absl::ToTimeT(to)) == nullptr) {
    return OpensslError("set certificate validity");
  }
  return absl::OkStatus();
}

// Random serials: unguessable, and unique without a counter that two issuers would have to share. 127 bits, never zero.
absl::Status SetSerial(X509* cert) {
  std::string bytes = SystemRng().Bytes(16);
  bytes[0] = static_cast<char>((bytes[0] & 0x7F) | 0x40);
  const BignumPtr serial(BN_bin2bn(Bytes(bytes), static_cast<int>(bytes.size()), nullptr));
  if (serial == nullptr || BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(cert)) == nullptr) {
    return OpensslError("set certificate serial");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PemOf(X509* cert) {
  BioPtr bio = WriteBio();
  if (PEM_write_bio_X509(bio.get(), cert) != 1) return OpensslError("write certificate");
  return TextOf(bio.get());
}

// Ours are P-256; P-384 keys of others are taken. Explicit curve parameters are not: they can hide a curve of the sender's.
absl::Status CheckTlsKey(const EVP_PKEY* key) {
  char group[64] = {};
  char encoding[32] = {};
  size_t n = 0;
  if (key == nullptr || EVP_PKEY_is_a(key, "EC") != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key is ", key == nullptr ? "unreadable" : EVP_PKEY_get0_type_name(key), "; it must be EC P-256 or P-384"));
  }
  if (EVP_PKEY_get_group_name(key, group, sizeof group, &n) != 1) group[0] = '\0';
  if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, encoding, sizeof encoding, &n) != 1) encoding[0] = '\0';
  ERR_clear_error();
  const std::string_view name(group);
  if ((name != "prime256v1" && name != "P-256" && name != "secp384r1" && name != "P-384") ||
      std::string_view(encoding) != OSSL_PKEY_EC_ENCODING_GROUP) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key's curve is ", name.empty() ? "given by parameters" : ToAbsl(name), "; it must be P-256 or P-384"));
  }
  return absl::OkStatus();
}

absl::Status CheckSignatureHash(int signature_nid) {
  int digest = NID_undef, key = NID_undef;
  if (OBJ_find_sigid_algs(signature_nid, &digest, &key) != 1 ||
      (digest != NID_sha256 && digest != NID_sha384 && digest != NID_sha512)) {
    return absl::InvalidArgumentError("the request is not signed with SHA-256, SHA-384 or SHA-512");
  }
  return absl::OkStatus();
}

bool IsDnsName(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

absl::Status Push(GENERAL_NAMES* names, int type, ASN1_STRING* owned) {
  NamePtr name(GENERAL_NAME_new());
  if (name == nullptr || owned == nullptr) {
    ASN1_STRING_free(owned);
    return OpensslError("build subjectAltName");
  }
  GENERAL_NAME_set0_value(name.get(), type, owned);
  if (sk_GENERAL_NAME_push(names, name.get()) <= 0) return OpensslError("build subjectAltName");
  name.release();  // the stack owns it
  return absl::OkStatus();
}

ASN1_STRING* Ia5(std::string_view text) {
  ASN1_STRING* const s = ASN1_IA5STRING_new();
  if (s != nullptr && ASN1_STRING_set(s, text.data(), static_cast<int>(text.size())) != 1) {
    ASN1_STRING_free(s);
    return nullptr;
  }
  return s;
}

// Built from parts, not from OpenSSL's configuration syntax, in which a comma in a name would begin another name.
absl::Status SetSubjectAltName(X509* cert, const LeafRequest& request) {
  const NamesPtr names(sk_GENERAL_NAME_new_null());
  if (names == nullptr) return OpensslError("build subjectAltName");
  RETURN_IF_ERROR(Push(names.get(), GEN_URI, Ia5(request.spiffe_uri)));
  for (const std::string& name : request.dns) {
    in6_addr address;
    if (inet_pton(AF_INET, name.c_str(), &address) == 1 || inet_pton(AF_INET6, name.c_str(), &address) == 1) {
      RETURN_IF_ERROR(Push(names.get(), GEN_IPADD, a2i_IPADDRESS(name.c_str())));
    } else if (IsDnsName(name)) {
      RETURN_IF_ERROR(Push(names.get(), GEN_DNS, Ia5(name)));
    } else {
      return absl::InvalidArgumentError("not a host name or IP address: \"" + Printable(name) + "\"");
    }
  }
  if (X509_add1_ext_i2d(cert, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) != 1) {
    return OpensslError("add subjectAltName");
  }
  return absl::OkStatus();
}

absl::StatusOr<X509Ptr> NewCertificate(absl::Time from, absl::Time to) {
  X509Ptr cert(X509_new());
  if (cert == nullptr || X509_set_version(cert.get(), X509_VERSION_3) != 1) return OpensslError("new certificate");
  RETURN_IF_ERROR(SetSerial(cert.get()));
  RETURN_IF_ERROR(SetValidity(cert.get(), from, to));
  return cert;
}

absl::StatusOr<absl::Time> TimeOf(const ASN1_TIME* t) {
  tm parts{};
  if (ASN1_TIME_to_tm(t, &parts) != 1) return OpensslError("read certificate validity");
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string TextOfName(const ASN1_STRING* s) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)), static_cast<size_t>(ASN1_STRING_length(s)));
}

absl::Status ReadNames(const X509* cert, CertificateFacts* facts) {
  int critical = 0;
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, nullptr)));
  if (names == nullptr) {
    ERR_clear_error();
    // -1 is "has none"; anything else is a second extension or bytes that do not parse.
    if (critical == -1) return absl::OkStatus();
    return absl::InvalidArgumentError("the certificate's subjectAltName is malformed or given twice");
  }
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    int type = 0;
    const auto* const value = static_cast<const ASN1_STRING*>(GENERAL_NAME_get0_value(name, &type));
    if (type == GEN_URI) facts->uris.push_back(TextOfName(value));
    if (type == GEN_DNS) facts->dns.push_back(TextOfName(value));
    if (type == GEN_IPADD) {
      const int size = ASN1_STRING_length(value);
      char text[INET6_ADDRSTRLEN] = {};
      if ((size == 4 || size == 16) &&
          inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text, sizeof text) != nullptr) {
        facts->dns.emplace_back(text);
      }
    }
  }
  return absl::OkStatus();
}

// The hash of what an i2d function allocated, which is freed.
Hash TakeHash(int size, unsigned char* der) {
  const Hash hash = Sha256(std::string_view(reinterpret_cast<const char*>(der), static_cast<size_t>(size)));
  OPENSSL_free(der);
  return hash;
}

}  // namespace

absl::StatusOr<X509Ptr> CertificateFromPem(std::string_view pem) {
  if (pem.size() > kPemBytes) return absl::InvalidArgumentError("a certificate in PEM is at most 64 KiB");
  BioPtr bio = ReadBio(pem);
  X509Ptr cert(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (cert == nullptr) return absl::InvalidArgumentError("not a certificate in PEM (BEGIN CERTIFICATE): " + DrainErrors());
  return cert;
}

absl::StatusOr<std::string> NewTlsKeyPem() {
  const PkeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpensslError("generate P-256 key");
  return PrivateKeyToPem(key.get());
}

absl::StatusOr<Hash> SpkiHashOfKey(std::string_view key_pem) {
  ASSIGN_OR_RETURN(const PkeyPtr key, PrivateKeyFromPem(key_pem));
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key.get(), &der);
  if (size <= 0) return OpensslError("encode public key");
  return TakeHash(size, der);
}

absl::StatusOr<CaCertificate> NewCa(std::string_view org, absl::Time now, absl::Duration life) {
  CaCertificate ca;
  ASSIGN_OR_RETURN(ca.key_pem, NewTlsKeyPem());
  ASSIGN_OR_RETURN(const PkeyPtr key, PrivateKeyFromPem(ca.key_pem));
  // An hour back, so that a machine whose clock is a little behind can use it at once.
  ASSIGN_OR_RETURN(const X509Ptr cert, NewCertificate(now - absl::Hours(1), now + life));
  X509_NAME* const subject = X509_get_subject_name(cert.get());
  RETURN_IF_ERROR(SetCommonName(subject, std::string(org) + " orgtrail CA"));
  if (X509_set_issuer_name(cert.get(), subject) != 1 || X509_set_pubkey(cert.get(), key.get()) != 1) {
    return OpensslError("fill CA certificate");
  }
  RETURN_IF_ERROR(AddExtension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  RETURN_IF_ERROR(AddExtension(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign"));
  RETURN_IF_ERROR(AddExtension(cert.get(), cert.get(), NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(AddExtension(cert.get(), cert.get(), NID_authority_key_identifier, "keyid:always"));
  if (X509_sign(cert.get(), key.get(), EVP_sha256()) == 0) return OpensslError("sign CA certificate");
  ASSIGN_OR_RETURN(ca.cert_pem, PemOf(cert.get()));
  return ca;
}

absl::StatusOr<std::string> NewCsrPem(std::string_view key_pem) {
  ASSIGN_OR_RETURN(const PkeyPtr key, PrivateKeyFromPem(key_pem));
  const ReqPtr req(X509_REQ_new());
  if (req == nullptr || X509_REQ_set_version(req.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_pubkey(req.get(), key.get()) != 1) {
    return OpensslError("build certificate request");
  }
  RETURN_IF_ERROR(SetCommonName(X509_REQ_get_subject_name(req.get()), "orgtrail"));
  if (X509_REQ_sign(req.get(), key.get(), EVP_sha256()) == 0) return OpensslError("sign certificate request");
  BioPtr bio = WriteBio();
  if (PEM_write_bio_X509_REQ(bio.get(), req.get()) != 1) return OpensslError("write certificate request");
  return TextOf(bio.get());
}

absl::StatusOr<std::string> IssueLeafPem(const CaCertificate& ca, const LeafRequest& request) {
  if (request.csr_pem.size() > kPemBytes || request.csr_pem.find(kBeginRequest) == std::string::npos) {
    return absl::InvalidArgumentError("not a certificate request in PEM (BEGIN CERTIFICATE REQUEST)");
  }
  if (!request.spiffe_uri.starts_with("spiffe://") || request.spiffe_uri.size() > limits::kSpiffeBytes ||
      std::any_of(request.spiffe_uri.begin(), request.spiffe_uri.end(), [](char c) { return c <= ' ' || c > '~'; })) {
    return absl::InvalidArgumentError("not a SPIFFE id: \"" + Printable(request.spiffe_uri) + "\"");
  }
  BioPtr bio = ReadBio(request.csr_pem);
  const ReqPtr req(PEM_read_bio_X509_REQ(bio.get(), nullptr, nullptr, nullptr));
  if (req == nullptr) return absl::InvalidArgumentError("the certificate request is malformed: " + DrainErrors());
  EVP_PKEY* const key = X509_REQ_get0_pubkey(req.get());
  ERR_clear_error();
  RETURN_IF_ERROR(CheckTlsKey(key));
  RETURN_IF_ERROR(CheckSignatureHash(X509_REQ_get_signature_nid(req.get())));
  if (X509_REQ_verify(req.get(), key) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("the certificate request is not signed by its own key");
  }

  ASSIGN_OR_RETURN(const X509Ptr issuer, CertificateFromPem(ca.cert_pem));
  ASSIGN_OR_RETURN(const PkeyPtr ca_key, PrivateKeyFromPem(ca.key_pem));
  if (X509_check_private_key(issuer.get(), ca_key.get()) != 1) {
    ERR_clear_error();
    return absl::FailedPreconditionError("the CA's key does not belong to the CA's certificate");
  }
  ASSIGN_OR_RETURN(const X509Ptr cert, NewCertificate(request.not_before, request.not_after));
  const std::string_view uri = request.spiffe_uri;
  RETURN_IF_ERROR(SetCommonName(X509_get_subject_name(cert.get()), uri.substr(uri.rfind('/') + 1)));
  if (X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer.get())) != 1 || X509_set_pubkey(cert.get(), key) != 1) {
    return OpensslError("fill certificate");
  }
  RETURN_IF_ERROR(AddExtension(cert.get(), issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
  RETURN_IF_ERROR(AddExtension(cert.get(), issuer.get(), NID_key_usage, "critical,digitalSignature"));
  RETURN_IF_ERROR(AddExtension(cert.get(), issuer.get(), NID_ext_key_usage, "clientAuth,serverAuth"));
  RETURN_IF_ERROR(AddExtension(cert.get(), issuer.get(), NID_subject_key_identifier, "hash"));
  RETURN_IF_ERROR(AddExtension(cert.get(), issuer.get(), NID_authority_key_identifier, "keyid:always"));
  RETURN_IF_ERROR(SetSubjectAltName(cert.get(), request));
  if (X509_sign(cert.get(), ca_key.get(), EVP_sha256()) == 0) return OpensslError("sign certificate");
  return PemOf(cert.get());
}

absl::StatusOr<CertificateFacts> ReadCertificate(std::string_view pem) {
  ASSIGN_OR_RETURN(const X509Ptr cert, CertificateFromPem(pem));
  CertificateFacts facts;
  const uint32_t flags = X509_get_extension_flags(cert.get());
  if ((flags & EXFLAG_INVALID) != 0) return absl::InvalidArgumentError("the certificate's extensions are malformed");
  facts.is_ca = (flags & EXFLAG_CA) != 0;
  facts.can_sign_certs = (flags & EXFLAG_KUSAGE) != 0 && (X509_get_key_usage(cert.get()) & KU_KEY_CERT_SIGN) != 0;
  RETURN_IF_ERROR(ReadNames(cert.get(), &facts));

  const BignumPtr serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert.get()), nullptr));
  if (serial == nullptr || BN_num_bytes(serial.get()) > 32) return absl::InvalidArgumentError("the certificate's serial is malformed");
  std::string serial_bytes(static_cast<size_t>(BN_num_bytes(serial.get())), '\0');
  BN_bn2bin(serial.get(), Bytes(serial_bytes.data()));
  facts.serial_hex = Hex(serial_bytes);

  ASSIGN_OR_RETURN(facts.not_before, TimeOf(X509_get0_notBefore(cert.get())));
  ASSIGN_OR_RETURN(facts.not_after, TimeOf(X509_get0_notAfter(cert.get())));

  unsigned char* der = nullptr;
  int size = i2d_X509(cert.get(), &der);
  if (size <= 0) return OpensslError("encode certificate");
  facts.der_hash = TakeHash(size, der);
  der = nullptr;
  size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert.get()), &der);
  if (size <= 0) return OpensslError("encode certificate's key");
  facts.spki_hash = TakeHash(size, der);
  return facts;
}

absl::Status CheckIssued(std::string_view leaf_pem, std::string_view ca_pem, absl::Time now) {
  ASSIGN_OR_RETURN(const X509Ptr leaf, CertificateFromPem(leaf_pem));
  const StorePtr store(X509_STORE_new());
  const StoreCtxPtr ctx(X509_STORE_CTX_new());
  if (store == nullptr || ctx == nullptr) return OpensslError("check certificate");
  if (ca_pem.size() > kPemBytes) return absl::InvalidArgumentError("a CA bundle is at most 64 KiB");
  BioPtr bio = ReadBio(ca_pem);
  int roots = 0;
  while (const X509Ptr root{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    if (X509_STORE_add_cert(store.get(), root.get()) != 1) return OpensslError("load CA certificate");
    ++roots;
  }
  ERR_clear_error();  // the end of the bundle is reported as an error
  if (roots == 0) return absl::InvalidArgumentError("the CA bundle holds no certificate");
  if (X509_STORE_CTX_init(ctx.get(), store.get(), leaf.get(), nullptr) != 1) return OpensslError("check certificate");
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx.get()), absl::ToTimeT(now));
  if (X509_verify_cert(ctx.get()) == 1) return absl::OkStatus();
  ERR_clear_error();
  const int reason = X509_STORE_CTX_get_error(ctx.get());
  const std::string text = X509_verify_cert_error_string(reason);
  if (reason == X509_V_ERR_CERT_HAS_EXPIRED || reason == X509_V_ERR_CERT_NOT_YET_VALID) {
    return absl::PermissionDeniedError(text + " (it is " + Rfc3339(now) + " here; is the clock right?)");
  }
  return absl::PermissionDeniedError("the certificate is not one of this CA's: " + text);
}

}  // namespace orgtrail
