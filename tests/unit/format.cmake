orgtrail_test(merkle_test SOURCES tests/unit/common/merkle/tree_test.cc DEPS common_merkle)
orgtrail_test(format_test
  SOURCES tests/unit/common/format/vectors_test.cc
  DEPS common_format)
orgtrail_test(proof_test SOURCES tests/unit/common/format/proof_test.cc DEPS common_seal)
orgtrail_test(seal_test SOURCES tests/unit/common/seal/sealer_test.cc DEPS common_seal)
