orgtrail_test(config_test SOURCES tests/unit/common/config/yaml_test.cc DEPS common_config)
orgtrail_test(metrics_test SOURCES tests/unit/common/metrics/metrics_test.cc DEPS common_metrics)
orgtrail_test(http_test SOURCES tests/unit/common/http/request_test.cc tests/unit/common/http/server_test.cc
              DEPS common_http common_http_client common_observability)
orgtrail_test(http_source_test SOURCES tests/unit/agent/capture/http_source_test.cc DEPS agent_capture common_http_client)
