orgtrail_test(compress_test SOURCES tests/unit/common/compress/compress_test.cc DEPS common_compress)
orgtrail_test(json_test SOURCES tests/unit/common/json/scanner_test.cc tests/unit/common/json/differential_test.cc tests/unit/common/json/members_test.cc
  DEPS common_json simdjson::simdjson)
orgtrail_test(recorder_test SOURCES tests/unit/agent/record/recorder_test.cc DEPS agent_record)
orgtrail_test(admit_test SOURCES tests/unit/aggregator/admit/terms_test.cc tests/unit/aggregator/admit/admitter_test.cc DEPS aggregator_admit)
# The fuzz target's corpus, replayed at every length; the target itself is built with -DORGTRAIL_FUZZ=ON.
add_executable(scanner_replay tests/fuzz/scanner_fuzz.cc)
target_compile_definitions(scanner_replay PRIVATE ORGTRAIL_FUZZ_REPLAY)
target_include_directories(scanner_replay PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(scanner_replay PRIVATE common_json)
set_target_properties(scanner_replay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
add_test(NAME scanner_replay COMMAND scanner_replay ${PROJECT_SOURCE_DIR}/tests/fuzz/scanner_corpus)
