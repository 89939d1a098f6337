add_library(test_ledger_builder STATIC EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/support/ledger_builder.cc)
target_link_libraries(test_ledger_builder PUBLIC aggregator_ledger aggregator_admit common_seal)
orgtrail_test(ledger_test
  SOURCES tests/unit/aggregator/ledger/ledger_test.cc tests/unit/aggregator/ledger/recovery_test.cc
          tests/unit/aggregator/ledger/committer_test.cc tests/unit/aggregator/ledger/registry_test.cc
          tests/unit/aggregator/ledger/head_test.cc
  DEPS test_ledger_builder)
