# The quickstart, twice, as a newcomer runs it.
add_test(NAME quickstart_test COMMAND ${PROJECT_SOURCE_DIR}/tests/e2e/quickstart_test ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/bin)
set_tests_properties(quickstart_test PROPERTIES TIMEOUT 300)
