// FeedService: the merged feed over gRPC, one server stream a subscriber.
//
// Path     ledger ⇒ Subscription ⇒ [FeedService] → subscriber
// Threads  gRPC reactions change a state and queue work. A few workers make the next message of a stream when its last write is
//          done and something new is logged; one thread waits for the ledger. Destroy it after the server is shut down.
// Holds    one message in flight a subscriber, nothing queued for it: a slow one delays itself only. One whose write has been
//          blocked for `stall` is disconnected; it resumes from the last cursor it got.
// Bounds   `max_streams` subscribers.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "aggregator/feed/subscription.h"
#include "aggregator/index/history.h"
#include "aggregator/ledger/registry.h"
#include "aggregator/query/completeness.h"
#include "aggregator/query/pool.h"
#include "aggregator/query/read_journal.h"
#include "aggregator/query/service.h"
#include "common/metrics/metrics.h"
#include "orgtrail/v1/feed.grpc.pb.h"

namespace orgtrail {

struct FeedOptions {
  size_t workers = 2;
  size_t max_streams = 1000;
  absl::Duration stall = absl::Seconds(30);
  absl::Duration completeness = absl::Seconds(5);   // at least so often to who follows
  absl::Duration journal = absl::Hours(1);
};

class FeedService final : public v1::Feed::CallbackService {
 public:
  FeedService(const FeedOptions& options, const LedgerReader& ledger, const History& history, const Registry& registry,
              const Completeness& completeness, ReadJournal& journal, std::string mac_key, const Clock& clock, Metrics& metrics,
              PeerSource peers = TlsPeers());
  ~FeedService() override;
  grpc::ServerWriteReactor<v1::FeedMessage>* Subscribe(grpc::CallbackServerContext* context,
                                                       const v1::SubscribeRequest* request) override;
  size_t subscriptions() const;
  // Ends every stream with UNAVAILABLE: before the server is shut down.
  void Drain();

 private:
  class Stream;
  using Streams = std::unordered_map<uint64_t, std::shared_ptr<Stream>>;

  void Queue(std::shared_ptr<Stream> stream);
  void Notify();                       // the notifier's thread
  void Forget(uint64_t id);
  std::vector<uint64_t> Recoveries() const;
  std::vector<std::shared_ptr<Stream>> All() const;

  const FeedOptions options_;
  const LedgerReader& ledger_;
  const History& history_;
  const Registry& registry_;
  const Completeness& completeness_;
  ReadJournal& journal_;
  const std::string mac_key_;
  const Clock& clock_;
  const PeerSource peers_;
  Counter& sent_;
  Counter& stalled_;
  Gauge& open_;
  Guarded<Streams> streams_;
  std::atomic<uint64_t> next_id_{1};
  Guarded<bool> stopping_{false};
  std::unique_ptr<Pool> pool_;
  std::thread notifier_;
};

}  // namespace orgtrail
