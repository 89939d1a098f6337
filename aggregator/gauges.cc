#include "aggregator/gauges.h"

#include <functional>
#include <string_view>
#include <utility>

namespace orgtrail {
namespace {

void Read(Metrics& metrics, std::string_view name, std::string_view help, std::function<double()> value) {
  metrics.OnCollect([&gauge = metrics.GetGauge(name, help), value = std::move(value)] { gauge.Set(value()); });
}

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

}  // namespace

void ExportLedger(Metrics& m, const Ledger& l, const Committer& c) {
  Read(m, "orgtrail_ledger_bytes", "bytes the ledger uses, all shards", [&l] { return static_cast<double>(l.stats().used_bytes); });
  Read(m, "orgtrail_ledger_active_bytes", "bytes of the shard that grows; at shard_bytes it is sealed", [&l] { return static_cast<double>(l.stats().active_bytes); });
  Read(m, "orgtrail_ledger_shards", "shards, the one that grows included", [&l] { return l.stats().shards; });
  Read(m, "orgtrail_ledger_shards_to_repack", "sealed shards that are not repacked yet", [&l] { return l.stats().to_repack; });
  Read(m, "orgtrail_ledger_leaves", "size of the tree: signed leaves", [&l] { return static_cast<double>(l.head().size); });
  Read(m, "orgtrail_ledger_events", "records in the ledger", [&l] { return static_cast<double>(l.head().events); });
  Read(m, "orgtrail_ledger_oldest_reader_txns", "commits the oldest open read is behind; growing: a reader forgot to let go",
       [&l] { return static_cast<double>(l.stats().oldest_reader_txns); });
  Read(m, "orgtrail_committer_queue_batches", "verified batches waiting for the next commit", [&c] { return static_cast<double>(c.queued()); });
  Read(m, "orgtrail_committer_held", "1: the disk or map is full and a group waits", [&c] { return c.held() ? 1 : 0; });
}

void ExportCertificates(Metrics& m, const ServerRenewal& r) {
  Read(m, "orgtrail_server_certificate_expiry_timestamp_seconds", "when the doors' certificate runs out, Unix time", [&r] { return Seconds(r.facts().server_not_after_ns); });
  Read(m, "orgtrail_ca_certificate_expiry_timestamp_seconds", "when the organization's CA runs out, Unix time", [&r] { return Seconds(r.facts().ca_not_after_ns); });
}

void ExportScrub(Metrics& m, const Scrubber& s) {
  Read(m, "orgtrail_scrub_last_round_timestamp_seconds", "when all that is kept had been read through; 0: never yet", [&s] { return Seconds(s.facts().last_round_ns); });
  Read(m, "orgtrail_scrub_last_round_bytes", "bytes that round read", [&s] { return static_cast<double>(s.facts().last_round_bytes); });
  Read(m, "orgtrail_scrub_damaged_files", "damaged files found in this round, or in the last one while none is under way",
       [&s] { return static_cast<double>(s.facts().damaged_files); });
  Read(m, "orgtrail_scrub_read_bytes", "bytes read through since the start", [&s] { return static_cast<double>(s.facts().bytes); });
  Read(m, "orgtrail_scrub_round_share", "how much of the ledger this round has come through; 0: none is under way", [&s] {
    const ScrubFacts facts = s.facts();
    return facts.leaves == 0 ? 0 : static_cast<double>(facts.leaf) / static_cast<double>(facts.leaves);
  });
}

void ExportRefill(Metrics& m, const MissingBodies& b) {
  Read(m, "orgtrail_refill_wanted_batches", "batches that the ledger lost a part of and that agents are asked for",
       [&b] { return static_cast<double>(b.facts().wanted + b.facts().came); });
  Read(m, "orgtrail_refill_given_up_batches", "of those, what their agents do not have any more or do not answer for: orgtrail repair",
       [&b] { return static_cast<double>(b.facts().given_up); });
  Read(m, "orgtrail_refill_asked_batches", "batches agents were asked for since the start, repeats included", [&b] { return static_cast<double>(b.facts().asked); });
  Read(m, "orgtrail_refill_returned_batches", "batches that came back from their agents and are in their place, since the start",
       [&b] { return static_cast<double>(b.facts().done); });
}

}  // namespace orgtrail
