orgtrail_test(format_vectors_test SOURCES tests/unit/common/format/vectors_test.cc DEPS common_format)
orgtrail_test(seal_test SOURCES tests/unit/common/seal/sealer_test.cc DEPS common_seal)
