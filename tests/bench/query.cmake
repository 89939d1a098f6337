add_executable(history_bench ${PROJECT_SOURCE_DIR}/tests/bench/history_bench.cc)
target_include_directories(history_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(history_bench PRIVATE aggregator_index)
set_target_properties(history_bench PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
