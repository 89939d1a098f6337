# Whole programs over loopback: GoogleTest drives the real aggregator, agents and command line. `ctest -L e2e`; the long ones are
# also labelled `long`. ORGTRAIL_BIN names a directory with other builds of the programs.
orgtrail_library(e2e_support SOURCES tests/e2e/support/process.cc tests/e2e/support/organization.cc tests/e2e/support/relay.cc
  DEPS common_http_client common_crypto)
target_compile_definitions(e2e_support PRIVATE ORGTRAIL_BIN_DIR="${PROJECT_BINARY_DIR}/bin")

# orgtrail_e2e(name LABELS … DEPS …): tests/e2e/<name>.cc.
function(orgtrail_e2e name)
  cmake_parse_arguments(PARSE_ARGV 1 A "" "" "LABELS;DEPS;SOURCES")
  if(NOT A_SOURCES)
    set(A_SOURCES tests/e2e/${name}.cc)
  endif()
  orgtrail_test(${name} SOURCES ${A_SOURCES} DEPS e2e_support ${A_DEPS})
  add_dependencies(${name} orgtrail orgtrail-agent orgtrail-aggregator)
  set_tests_properties(${name} PROPERTIES LABELS "e2e;${A_LABELS}" TIMEOUT 600)
endfunction()

orgtrail_e2e(life_of_a_record_test)
orgtrail_e2e(access_test)
orgtrail_e2e(feed_test)
orgtrail_e2e(failure_test LABELS long)
orgtrail_e2e(full_disk_test LABELS long)
orgtrail_e2e(recovery_test LABELS long)
orgtrail_e2e(real_input_test DEPS agent_record)
orgtrail_e2e(crash_test LABELS long DEPS aggregator_ledger common_format)
orgtrail_e2e(enrolment_test)
orgtrail_e2e(damage_test DEPS agent_spool common_format)
orgtrail_e2e(quarantine_test DEPS aggregator_ledger)
orgtrail_e2e(scrub_test DEPS aggregator_ledger common_format)
orgtrail_e2e(repair_test DEPS aggregator_ledger)
orgtrail_e2e(refill_test LABELS long DEPS aggregator_ledger agent_spool common_format)
orgtrail_e2e(redteam_test LABELS redteam
  SOURCES tests/redteam/table.cc tests/redteam/redteam_test.cc tests/redteam/rogue.cc tests/redteam/wire_test.cc
    tests/redteam/identity_test.cc tests/redteam/bare.cc tests/redteam/transport_test.cc
    tests/redteam/host_test.cc tests/redteam/lying_log_test.cc tests/redteam/retention_test.cc tests/redteam/keys_test.cc tests/redteam/content_test.cc
    tests/redteam/clock_test.cc tests/support/certificates.cc
  DEPS agent_enrol aggregator_enrol aggregator_transparency aggregator_ledger test_ledger_builder OpenSSL::SSL)
# What waits for the timeouts of others has an entry of its own.
set_tests_properties(redteam_test PROPERTIES ENVIRONMENT "GTEST_FILTER=-Transport*:RedTeamTable.*")
# Whether tests/redteam/README.md says what the tests do; needs the other programs, to ask for the names of their tests.
add_test(NAME redteam_table COMMAND redteam_test --gtest_filter=RedTeamTable.*)
add_test(NAME redteam_transport_test COMMAND redteam_test --gtest_filter=Transport*)
set_tests_properties(redteam_transport_test PROPERTIES LABELS "e2e;redteam" TIMEOUT 600)
target_compile_definitions(redteam_test PRIVATE ORGTRAIL_TESTS_DIR="${PROJECT_BINARY_DIR}/tests")
