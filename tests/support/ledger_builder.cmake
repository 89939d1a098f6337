# For tests and benchmarks of whatever reads a ledger.
if(NOT TARGET test_ledger_builder)
  add_library(test_ledger_builder STATIC EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/support/ledger_builder.cc)
  target_link_libraries(test_ledger_builder PUBLIC aggregator_ledger aggregator_admit common_seal)
endif()
