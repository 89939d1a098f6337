orgtrail_test(pipeline_test SOURCES tests/unit/agent/record/pipeline_test.cc DEPS agent_pipeline)
