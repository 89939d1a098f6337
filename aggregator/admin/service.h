// AdminService: the office's gRPC face. Threads: gRPC's; acts wait for the log, so the synchronous API.
#pragma once

#include <memory>

#include "aggregator/admin/office.h"
#include "aggregator/query/read_journal.h"

namespace grpc {
class Service;
}

namespace orgtrail {

// A person revoked while connected is refused at the next call. What is read (fleet, alarms, status) is recorded in `reads` before it is
// shown.
class AdminService {
 public:
  AdminService(Office& office, const Registry& registry, ReadJournal& reads);
  ~AdminService();
  grpc::Service* service();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace orgtrail
