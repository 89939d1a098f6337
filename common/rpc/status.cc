#include <string>

#include "common/base/status.h"
#include "common/rpc/credentials.h"

namespace orgtrail {
namespace {

constexpr size_t kMessageBytes = 2048;

static_assert(static_cast<int>(absl::StatusCode::kUnauthenticated) == static_cast<int>(grpc::StatusCode::UNAUTHENTICATED));
static_assert(static_cast<int>(absl::StatusCode::kDataLoss) == static_cast<int>(grpc::StatusCode::DATA_LOSS));

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message().substr(0, kMessageBytes)));
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace orgtrail
