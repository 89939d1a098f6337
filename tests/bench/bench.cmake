# Benchmarks: Google Benchmark for one step, scripts for the whole path. Each area lists its own.
foreach(area json format store ledger query wiring)
  include(tests/bench/${area}.cmake OPTIONAL)
endforeach()
