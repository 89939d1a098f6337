orgtrail_test(pipeline_test SOURCES tests/unit/agent/record/pipeline_test.cc DEPS agent_pipeline)
include(tests/support/ledger_builder.cmake)
orgtrail_test(own_agent_test SOURCES tests/unit/aggregator/own/own_agent_test.cc DEPS aggregator_own aggregator_verify test_ledger_builder)
orgtrail_test(alarms_test
  SOURCES tests/unit/aggregator/alarms/alarms_test.cc tests/unit/aggregator/alarms/notifier_test.cc tests/unit/aggregator/alarms/watch_test.cc
  DEPS aggregator_alarms common_http test_ledger_builder)
orgtrail_test(audit_test SOURCES tests/unit/common/format/audit_test.cc DEPS common_seal)
orgtrail_test(office_test SOURCES tests/unit/aggregator/admin/office_test.cc tests/unit/aggregator/admin/epochs_test.cc DEPS aggregator_admin test_ledger_builder)
