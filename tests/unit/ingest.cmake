include(tests/support/ledger_builder.cmake)
orgtrail_test(verifier_test SOURCES tests/unit/aggregator/verify/verifier_test.cc DEPS aggregator_ingest test_ledger_builder)
