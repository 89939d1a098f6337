orgtrail_test(settings_test SOURCES tests/unit/agent/config_test.cc tests/unit/aggregator/config_test.cc DEPS agent_config aggregator_config)
