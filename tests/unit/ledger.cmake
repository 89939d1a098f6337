include(tests/support/ledger_builder.cmake)
orgtrail_test(ledger_test
  SOURCES tests/unit/aggregator/ledger/ledger_test.cc tests/unit/aggregator/ledger/recovery_test.cc
          tests/unit/aggregator/ledger/committer_test.cc tests/unit/aggregator/ledger/registry_test.cc
          tests/unit/aggregator/ledger/shards_test.cc tests/unit/aggregator/ledger/repair_test.cc tests/unit/aggregator/ledger/missing_bodies_test.cc tests/unit/aggregator/ledger/head_test.cc tests/unit/aggregator/ledger/tail_test.cc
          tests/unit/aggregator/ledger/pruner_test.cc
  DEPS test_ledger_builder)
orgtrail_test(scrubber_test SOURCES tests/unit/aggregator/scrub/scrubber_test.cc tests/unit/aggregator/scrub/refill_test.cc DEPS aggregator_scrub test_ledger_builder)
add_dependencies(scrubber_test orgtrail-aggregator)
