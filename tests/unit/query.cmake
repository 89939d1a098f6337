include(tests/support/ledger_builder.cmake)
orgtrail_test(history_test
  SOURCES tests/unit/aggregator/index/run_test.cc tests/unit/aggregator/index/recent_test.cc tests/unit/aggregator/index/history_test.cc
  DEPS aggregator_index test_ledger_builder)
orgtrail_test(query_test
  SOURCES tests/unit/aggregator/query/lookup_test.cc tests/unit/aggregator/query/read_log_test.cc
          tests/unit/aggregator/query/posted_by_test.cc tests/unit/aggregator/feed/subscription_test.cc
          tests/unit/aggregator/transparency/transparency_test.cc
  DEPS aggregator_transparency aggregator_feed test_ledger_builder)
orgtrail_test(doors_test SOURCES tests/unit/aggregator/feed/service_test.cc
  DEPS aggregator_transparency aggregator_feed test_ledger_builder)
