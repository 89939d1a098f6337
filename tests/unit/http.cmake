orgtrail_test(config_test SOURCES tests/unit/common/config/yaml_test.cc DEPS common_config)
orgtrail_test(metrics_test SOURCES tests/unit/common/metrics/metrics_test.cc DEPS common_metrics)
