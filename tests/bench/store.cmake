add_executable(store_bench tests/bench/store_bench.cc)
target_include_directories(store_bench PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(store_bench PRIVATE agent_spool agent_capture benchmark::benchmark benchmark::benchmark_main)
