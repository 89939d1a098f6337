orgtrail_test(compress_test SOURCES tests/unit/common/compress/compress_test.cc DEPS common_compress)
orgtrail_test(json_test SOURCES tests/unit/common/json/scanner_test.cc tests/unit/common/json/differential_test.cc tests/unit/common/json/members_test.cc
  DEPS common_json simdjson::simdjson)
orgtrail_test(recorder_test SOURCES tests/unit/agent/record/recorder_test.cc DEPS agent_record)
orgtrail_test(admit_test SOURCES tests/unit/aggregator/admit/terms_test.cc tests/unit/aggregator/admit/admitter_test.cc DEPS aggregator_admit)
