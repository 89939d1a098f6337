orgtrail_test(settings_test SOURCES tests/unit/agent/config_test.cc tests/unit/aggregator/config_test.cc DEPS agent_config aggregator_config)
orgtrail_test(client_test
  SOURCES tests/unit/aggregator/client/cursor_file_test.cc tests/unit/aggregator/client/organization_test.cc
          tests/unit/aggregator/client/show_test.cc tests/unit/aggregator/client/shards_test.cc
  DEPS aggregator_client common_seal)
orgtrail_test(program_test SOURCES tests/unit/aggregator/client/program_test.cc DEPS common_seal common_fs)
add_dependencies(program_test orgtrail)
