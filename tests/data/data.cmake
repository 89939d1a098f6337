# Records of the project's own: the quickstart, the tests and the benchmarks need nothing else.
orgtrail_library(test_data SOURCES tests/data/record_maker.cc tests/data/incident.cc DEPS common_base)
orgtrail_program(orgtrail-generate SOURCES tests/data/generate.cc DEPS test_data CLI11::CLI11)
