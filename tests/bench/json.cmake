add_executable(record_bench tests/bench/record_bench.cc)
target_include_directories(record_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(record_bench PRIVATE agent_record aggregator_admit simdjson::simdjson benchmark::benchmark)
set_target_properties(record_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
