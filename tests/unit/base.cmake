orgtrail_test(usage_test SOURCES tests/unit/common/daemon/usage_test.cc DEPS common_manual)
orgtrail_test(base_test SOURCES tests/unit/common/base/text_test.cc tests/unit/common/base/ids_test.cc tests/unit/common/base/cidr_test.cc tests/unit/common/base/nearest_test.cc DEPS common_base)
orgtrail_test(last_words_test SOURCES tests/unit/common/base/last_words_test.cc DEPS common_fs)
