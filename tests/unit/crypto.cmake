orgtrail_test(crypto_test
  SOURCES tests/unit/common/crypto/digest_test.cc tests/unit/common/crypto/sign_test.cc tests/unit/common/crypto/cipher_test.cc
          tests/unit/common/crypto/x509_test.cc tests/support/certificates.cc
  DEPS common_crypto)
orgtrail_test(rpc_test SOURCES tests/unit/common/rpc/credentials_test.cc tests/support/certificates.cc DEPS common_rpc)
