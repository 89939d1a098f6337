orgtrail_test(crypto_test
  SOURCES tests/unit/common/crypto/digest_test.cc tests/unit/common/crypto/sign_test.cc tests/unit/common/crypto/cipher_test.cc tests/unit/common/crypto/sha256_pair_test.cc
          tests/unit/common/crypto/idle_tls_test.cc tests/unit/common/crypto/x509_test.cc tests/support/certificates.cc
  DEPS common_crypto)
orgtrail_test(rpc_test SOURCES tests/unit/common/rpc/credentials_test.cc tests/unit/common/rpc/call_limit_test.cc tests/support/certificates.cc DEPS common_rpc)
orgtrail_test(enrol_desk_test SOURCES tests/unit/aggregator/enrol/desk_test.cc tests/unit/aggregator/enrol/server_renewal_test.cc tests/support/certificates.cc DEPS aggregator_enrol)
orgtrail_test(agent_enrol_test SOURCES tests/unit/agent/enrol/enrolment_test.cc DEPS agent_enrol aggregator_enrol)
