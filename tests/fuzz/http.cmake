# With ORGTRAIL_FUZZ these are libFuzzer targets; the corpora are replayed by replay_* in every test run.
foreach(target http_request put_audit_events)
  add_executable(${target}_fuzz tests/fuzz/${target}_fuzz.cc)
  target_include_directories(${target}_fuzz PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target}_fuzz PRIVATE agent_capture)
  target_compile_options(${target}_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(${target}_fuzz PRIVATE -fsanitize=fuzzer)
endforeach()
