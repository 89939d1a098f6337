# The world in a seed: the shipped sources once more, with hooks for the mistakes it plants and with small key trees.
set(sim_sources)
foreach(lib common_base common_fs common_crypto common_lmdb common_merkle common_json common_compress common_format common_seal
            common_metrics agent_record agent_pipeline agent_spool agent_uplink agent_rejoin aggregator_admit aggregator_ledger
            aggregator_verify aggregator_ingest aggregator_index aggregator_query aggregator_feed)
  get_target_property(sources ${lib} SOURCES)
  list(APPEND sim_sources ${sources})
endforeach()
# Doors to the network have no place in it, and it has its own way to die (hooks.cc) and its own commit (disk.cc).
list(FILTER sim_sources EXCLUDE REGEX "/service\\.cc$|/uplink/uplink\\.cc$|/base/check\\.cc$|/lmdb/env\\.cc$")
foreach(p ingest query feed)   # messages only: no gRPC in here
  list(APPEND sim_sources ${PROJECT_BINARY_DIR}/gen/orgtrail/v1/${p}.pb.cc)
endforeach()
add_library(sim_product STATIC EXCLUDE_FROM_ALL ${sim_sources} tests/sim/env.cc)
target_include_directories(sim_product PUBLIC ${PROJECT_SOURCE_DIR})
target_include_directories(sim_product SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/gen)
target_compile_definitions(sim_product PUBLIC ORGTRAIL_MUTANTS ORGTRAIL_TREE_SLOTS=32)
target_link_libraries(sim_product PUBLIC protobuf::libprotobuf absl::status absl::statusor absl::strings absl::time absl::flat_hash_map
                      Threads::Threads OpenSSL::SSL OpenSSL::Crypto PkgConfig::lmdb zstd::libzstd_shared
                      PkgConfig::xxhash PRIVATE orgtrail_warnings)
add_library(sim_world STATIC EXCLUDE_FROM_ALL tests/sim/world.cc tests/sim/nodes.cc tests/sim/judge.cc tests/sim/disk.cc tests/sim/hooks.cc
            tests/support/ledger_builder.cc)
target_link_libraries(sim_world PUBLIC sim_product)
target_compile_options(sim_world PRIVATE -Wall -Wextra -Werror)
add_executable(sim_test tests/sim/sim_main.cc)
target_link_libraries(sim_test PRIVATE sim_world sim_product)
target_compile_options(sim_test PRIVATE -Wall -Wextra -Werror)
set_target_properties(sim_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
add_test(NAME sim_test COMMAND sim_test)
set_tests_properties(sim_test PROPERTIES TIMEOUT 600)
add_test(NAME sim_repeat_test COMMAND sim_test --repeat 24)   # a seed that fails is worth nothing if it does not fail again
set_tests_properties(sim_repeat_test PROPERTIES TIMEOUT 300)
# The simulated disk against the real one. It links the simulator's build of the sources: their commits go through the disk.
orgtrail_test(fs_contract_test SOURCES tests/contract/fs_test.cc DEPS sim_world)
