// LedgerBuilder: fills a real ledger with real, signed batches, for tests of what reads it. Deterministic for one seed.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aggregator/admit/admitter.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/crypto/sign.h"
#include "common/format/control.h"
#include "common/seal/sealer.h"

namespace orgtrail {

// SplitMix64: the same bytes for the same seed, everywhere.
class SeededRng final : public Rng {
 public:
  explicit SeededRng(uint64_t seed) : state_(seed) {}
  void Fill(char* out, size_t n) override;

 private:
  uint64_t Next();
  uint64_t state_;
};

// A clock that stands still until it is moved.
class StillClock final : public Clock {
 public:
  absl::Time wall = absl::FromUnixSeconds(1'790'000'000);
  Tick now{1'000'000'000};
  absl::Time Wall() const override { return wall; }
  Tick Now() const override { return now; }
  ClockQuality Quality() const override { return {"ntp", true, 10, 100}; }
  std::string BootId() const override { return std::string(16, 'b'); }
  void Advance(absl::Duration d) {
    wall += d;
    now = now + d;
  }
};

// One agent: seals batches and says how the ledger's head moves. It enrols nothing by itself.
class TestAgent {
 public:
  TestAgent(std::string account, std::string region, std::string name, std::string origin, const Clock& clock, Rng& rng);

  const AgentIdentity& identity() const { return identity_; }
  const SigningKey& key() const { return key_; }
  std::string uri() const;
  IdentityLeaf Enrolment(std::string carries = "") const;

  Admitted Open();                                                         // epoch_open of the next epoch
  Admitted Batch(std::span<const std::string> records, Seen seen = {});    // one data batch; at most 1,000 records, 1 MiB
  struct Item {
    EventClass event_class = EventClass::kManagement;
    uint16_t flags = 0;
    std::string body;
  };
  Admitted BatchOf(std::span<const Item> items);                           // rows of any class
  Admitted WithoutBodies(const Admitted& whole);                           // as an agent sends it whose disk damaged the records
  void Lose(uint32_t n) { sealer_->Lose(n); }                              // before the next batch's records
  Admitted Heartbeat(Seen seen = {});
  Admitted Close();                                                        // epoch_close

 private:
  Admitted Admit(SealedBatch sealed);

  AgentIdentity identity_;
  std::string origin_;
  const Clock& clock_;
  SigningKey key_;
  std::unique_ptr<Sealer> sealer_;
  AgentHead head_;
  ZstdDecompressor zstd_;
  Admitter admitter_;
};

// A CloudTrail record with what lookups ask for; `n` makes it unlike any other.
std::string TestRecord(uint64_t n, std::string_view account, std::string_view region, absl::Time event_time,
                       std::string_view event_name = "PutObject", std::string_view user = "alice");

Admitted ControlItem(std::string entry);    // a control leaf to append

class LedgerBuilder {
 public:
  LedgerBuilder(std::string dir, StillClock& clock, uint64_t seed = 1, std::string origin = "orgtrail.test/o-demo");

  absl::Status Open();                       // or reopen; 64 MiB map unless options says otherwise
  void Shut() { ledger.reset(); }
  absl::Status Append(Admitted item);        // one transaction
  absl::Status Append(std::vector<Admitted> group);
  // Makes the agent, logs its enrolment and opens its epoch.
  TestAgent& Enrol(std::string account, std::string region, std::string name, std::string carries = "");
  // One batch of `n` records of the agent's own account and region, in one transaction; the clock moves by a second.
  absl::Status Fill(TestAgent& agent, size_t n);

  StillClock& clock;
  SeededRng rng;
  SigningKey log_key;
  LedgerOptions options;
  std::string origin;
  std::unique_ptr<Ledger> ledger;
  uint64_t records = 0;                      // made so far

 private:
  std::vector<std::unique_ptr<TestAgent>> agents_;
};

}  // namespace orgtrail
