orgtrail_test(lmdb_test SOURCES tests/unit/common/lmdb/env_test.cc DEPS common_lmdb common_fs)
