include(tests/support/ledger_builder.cmake)
orgtrail_test(verifier_test SOURCES tests/unit/aggregator/verify/verifier_test.cc DEPS aggregator_ingest test_ledger_builder)
orgtrail_test(uplink_session_test SOURCES tests/unit/agent/uplink/session_test.cc tests/unit/agent/uplink/branch_test.cc DEPS aggregator_ingest agent_uplink test_ledger_builder)
orgtrail_test(uplink_loopback_test SOURCES tests/unit/agent/uplink/loopback_test.cc DEPS aggregator_ingest agent_uplink test_ledger_builder)
