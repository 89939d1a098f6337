orgtrail_test(crypto_test
  SOURCES tests/unit/common/crypto/digest_test.cc tests/unit/common/crypto/sign_test.cc tests/unit/common/crypto/cipher_test.cc
  DEPS common_crypto)
