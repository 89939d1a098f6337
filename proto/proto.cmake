# Generated code is its own library: warnings off, SYSTEM includes, one custom command per .proto.
set(ORGTRAIL_PROTOS ingest query feed transparency admin enrol)
set(gen ${PROJECT_BINARY_DIR}/gen)
file(MAKE_DIRECTORY ${gen})
set(proto_sources)
foreach(p IN LISTS ORGTRAIL_PROTOS)
  set(o ${gen}/orgtrail/v1/${p})
  add_custom_command(
    OUTPUT ${o}.pb.cc ${o}.pb.h ${o}.grpc.pb.cc ${o}.grpc.pb.h
    COMMAND protobuf::protoc -I ${PROJECT_SOURCE_DIR}/proto --cpp_out=${gen} --grpc_out=${gen}
            --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>
            ${PROJECT_SOURCE_DIR}/proto/orgtrail/v1/${p}.proto
    DEPENDS ${PROJECT_SOURCE_DIR}/proto/orgtrail/v1/${p}.proto VERBATIM)
  list(APPEND proto_sources ${o}.pb.cc ${o}.grpc.pb.cc)
endforeach()
add_library(orgtrail_proto STATIC ${proto_sources})
target_include_directories(orgtrail_proto SYSTEM PUBLIC ${gen})
target_link_libraries(orgtrail_proto PUBLIC protobuf::libprotobuf gRPC::grpc++)
target_precompile_headers(orgtrail_proto PRIVATE <grpcpp/grpcpp.h>)
