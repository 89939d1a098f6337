orgtrail_test(compress_test SOURCES tests/unit/common/compress/compress_test.cc DEPS common_compress)
orgtrail_test(json_test SOURCES tests/unit/common/json/scanner_test.cc DEPS common_json)
