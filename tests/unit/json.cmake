orgtrail_test(compress_test SOURCES tests/unit/common/compress/compress_test.cc DEPS common_compress)
