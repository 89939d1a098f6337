# Benchmarks: Google Benchmark for one step, scripts for the whole path. Each area lists its own.
foreach(area json format store ledger query wiring)
  include(tests/bench/${area}.cmake OPTIONAL)
endforeach()
# The scripts of the whole path, with tiny limits, so that they never rot.
if(ORGTRAIL_TESTS)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(whole_path --bin ${PROJECT_BINARY_DIR}/bin --work ${PROJECT_BINARY_DIR}/bench-work)
  add_test(NAME ship_runs COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/bench/ship --only orgtrail --records 5000 ${whole_path})
  add_test(NAME latency_runs COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/bench/latency --rate 1000 --seconds 1 ${whole_path})
  add_test(NAME fleet_runs COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/bench/fleet --agents 8 --seconds 1 --quiet 1 ${whole_path})
  set_tests_properties(ship_runs latency_runs fleet_runs PROPERTIES TIMEOUT 300)
endif()
