# orgtrail-agent: capture → record → seal → spool ⇐ uplink.
orgtrail_library(agent_record SOURCES agent/record/recorder.cc DEPS common_format common_json)
orgtrail_library(agent_pipeline SOURCES agent/record/pipeline.cc DEPS agent_record agent_spool common_seal common_metrics)
orgtrail_library(agent_config SOURCES agent/config.cc DEPS common_config)
orgtrail_library(agent_spool SOURCES agent/spool/spool.cc agent/spool/values.cc DEPS common_seal common_lmdb common_fs)
orgtrail_library(agent_capture SOURCES agent/capture/file_tail.cc agent/capture/file_identity.cc agent/capture/known_files.cc agent/capture/content.cc agent/capture/lines.cc
          agent/capture/dir_watch.cc agent/capture/http_source.cc agent/capture/put_audit_events.cc
  DEPS common_http common_json common_compress common_fs common_format ZLIB::ZLIB)
orgtrail_library(agent_uplink SOURCES agent/uplink/uplink.cc agent/uplink/session.cc agent/uplink/backoff.cc
  DEPS agent_spool common_rpc common_metrics orgtrail_proto)
orgtrail_library(agent_enrol SOURCES agent/enrol/enrolment.cc DEPS common_rpc common_format common_fs)
orgtrail_program(orgtrail-agent SOURCES agent/main.cc agent/agent.cc
  DEPS agent_config agent_pipeline agent_capture agent_uplink agent_enrol common_observability CLI11::CLI11)
