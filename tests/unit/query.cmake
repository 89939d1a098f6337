include(tests/support/ledger_builder.cmake)
orgtrail_test(history_test
  SOURCES tests/unit/aggregator/index/run_test.cc tests/unit/aggregator/index/history_test.cc
  DEPS aggregator_index test_ledger_builder)
