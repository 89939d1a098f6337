# What a compiler does not check: arrows, doors, banned calls, headers, names in documents.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME tidy COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/tidy/check.py ${PROJECT_SOURCE_DIR})
add_test(NAME tidy_finds COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/tidy/check.py --self-test)
