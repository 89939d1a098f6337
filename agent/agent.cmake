# orgtrail-agent: capture → record → seal → spool ⇐ uplink.
orgtrail_library(agent_record SOURCES agent/record/recorder.cc DEPS common_format common_json)
orgtrail_library(agent_pipeline SOURCES agent/record/pipeline.cc DEPS agent_record agent_spool common_seal common_metrics)
orgtrail_library(agent_config SOURCES agent/config.cc DEPS common_config)
orgtrail_library(agent_spool SOURCES agent/spool/spool.cc agent/spool/values.cc DEPS common_seal common_lmdb common_fs)
orgtrail_library(agent_capture SOURCES agent/capture/file_tail.cc agent/capture/file_read.cc agent/capture/file_identity.cc agent/capture/known_files.cc agent/capture/content.cc agent/capture/lines.cc
          agent/capture/dir_watch.cc agent/capture/http_source.cc agent/capture/put_audit_events.cc
  DEPS common_http common_json common_compress common_fs common_format ZLIB::ZLIB)
orgtrail_library(agent_uplink SOURCES agent/uplink/uplink.cc agent/uplink/session.cc agent/uplink/session_wanted.cc agent/uplink/log_view.cc agent/uplink/mend.cc agent/uplink/branches.cc agent/uplink/backoff.cc
  DEPS agent_spool common_rpc common_metrics orgtrail_proto)
orgtrail_library(agent_enrol SOURCES agent/enrol/enrolment.cc DEPS common_rpc common_format common_fs)
orgtrail_library(agent_rejoin SOURCES agent/rejoin.cc DEPS agent_pipeline agent_uplink)
orgtrail_program(orgtrail-agent SOURCES agent/main.cc agent/agent.cc
  DEPS agent_config agent_rejoin agent_pipeline agent_capture agent_uplink agent_enrol common_observability common_daemon)

# The agent as one file that needs only libc, as its package ships it: our libraries and every other one linked statically.
option(ORGTRAIL_STATIC_AGENT "also build bin/static/orgtrail-agent, which needs only libc" OFF)
if(ORGTRAIL_STATIC_AGENT)
  pkg_check_modules(static_rpc REQUIRED grpc++ protobuf)
  orgtrail_own_libraries(orgtrail-agent own)
  list(TRANSFORM own REPLACE "(.+)" "$<TARGET_FILE:\\1>" OUTPUT_VARIABLE own_files)
  add_executable(orgtrail-agent-static agent/main.cc agent/agent.cc)
  add_dependencies(orgtrail-agent-static ${own})
  target_include_directories(orgtrail-agent-static PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_options(orgtrail-agent-static PRIVATE $<TARGET_PROPERTY:orgtrail_warnings,INTERFACE_COMPILE_OPTIONS>)
  target_link_options(orgtrail-agent-static PRIVATE -static-libgcc -static-libstdc++)
  target_link_libraries(orgtrail-agent-static PRIVATE -Wl,-Bstatic -Wl,--start-group ${own_files} ${static_rpc_STATIC_LIBRARIES}
    -lyaml-cpp -llmdb -lzstd -ldeflate -lz -lssl -lcrypto -Wl,--end-group -Wl,-Bdynamic m dl pthread)
  set_target_properties(orgtrail-agent-static PROPERTIES OUTPUT_NAME orgtrail-agent RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin/static)
endif()
