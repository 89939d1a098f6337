orgtrail_test(lmdb_test SOURCES tests/unit/common/lmdb/env_test.cc DEPS common_lmdb common_fs)
orgtrail_test(fs_test SOURCES tests/unit/common/fs/posix_test.cc tests/unit/common/fs/file_test.cc DEPS common_fs)
orgtrail_test(spool_test SOURCES tests/unit/agent/spool/spool_test.cc DEPS agent_spool)
orgtrail_test(file_tail_test
  SOURCES tests/unit/agent/capture/file_tail_test.cc tests/unit/agent/capture/lines_test.cc tests/unit/agent/capture/content_test.cc
  DEPS agent_capture)
