foreach(area json format http)
  include(tests/fuzz/${area}.cmake OPTIONAL)
endforeach()
