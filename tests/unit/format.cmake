orgtrail_test(merkle_test SOURCES tests/unit/common/merkle/tree_test.cc DEPS common_merkle)
orgtrail_test(format_test
  SOURCES tests/unit/common/format/vectors_test.cc tests/unit/common/format/batch_test.cc tests/unit/common/format/frame_test.cc
          tests/unit/common/format/control_test.cc tests/unit/common/format/note_test.cc tests/unit/common/format/chain_test.cc
          tests/unit/common/format/golden_test.cc tests/unit/common/format/corpus_test.cc
          tests/unit/common/format/recovery_test.cc tests/unit/common/format/retention_test.cc
  DEPS common_seal)
orgtrail_test(proof_test SOURCES tests/unit/common/format/proof_test.cc DEPS common_seal)
orgtrail_test(seal_test SOURCES tests/unit/common/seal/sealer_test.cc DEPS common_seal)
