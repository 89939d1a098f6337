add_executable(audit_bench ${PROJECT_SOURCE_DIR}/tests/bench/common/format/audit_bench.cc)
target_include_directories(audit_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(audit_bench PRIVATE common_seal benchmark::benchmark)
set_target_properties(audit_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
