#include "tests/support/ledger_builder.h"

#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {

uint64_t SeededRng::Next() {
  uint64_t z = (state_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void SeededRng::Fill(char* out, size_t n) {
  while (n > 0) {
    const uint64_t word = Next();
    const size_t part = std::min(n, sizeof word);
    std::memcpy(out, &word, part);
    out += part;
    n -= part;
  }
}

TestAgent::TestAgent(std::string account, std::string region, std::string name, std::string origin, const Clock& clock, Rng& rng)
    : identity_{Uuid::Random(rng), "o-demo", std::move(account), std::move(region), std::move(name)},
      origin_(std::move(origin)),
      clock_(clock),
      key_(SigningKey::FromSeed(rng.Bytes(32))),
      sealer_(std::make_unique<Sealer>(identity_, key_, clock, rng)) {
  head_.uuid = identity_.uuid;
}

std::string TestAgent::uri() const {
  return Identity{Identity::Kind::kAgent, identity_.org, identity_.account, identity_.region, identity_.name}.ToUri();
}

IdentityLeaf TestAgent::Enrolment(std::string carries) const {
  IdentityLeaf leaf;
  leaf.act = IdentityLeaf::Act::kEnrolled;
  leaf.wall_ns = static_cast<uint64_t>(clock_.WallNanos());
  leaf.uuid = identity_.uuid;
  leaf.uri = uri();
  leaf.identity_key = std::string(View(key_.public_key()));
  leaf.token_id = "0011223344556677";
  leaf.approver = "spiffe://o-demo/role/governance/root";
  leaf.carries = std::move(carries);
  leaf.serial = "0a";
  leaf.not_after_ns = leaf.wall_ns + 86'400'000'000'000;
  return leaf;
}

Admitted TestAgent::Open() {
  EpochOpening opening;
  opening.reason = head_.epoch == 0 ? EpochReason::kFirst : EpochReason::kClean;
  opening.origin = origin_;
  opening.previous_epoch = head_.epoch;
  opening.previous_batch_seq = head_.batch_seq;
  opening.previous_leaf = head_.leaf;
  opening.previous_last_seq = head_.last_seq;
  opening.boot_id = clock_.BootId();
  opening.clock_source = "ntp";
  opening.cert_serial = "0a";
  absl::StatusOr<SealedBatch> sealed = sealer_->OpenEpoch(head_.epoch + 1, std::move(opening), Seen{});
  CHECK_OK(sealed.status());
  return Admit(*std::move(sealed));
}

Admitted TestAgent::Batch(std::span<const std::string> records, Seen seen) {
  for (const std::string& record : records) sealer_->Add(EventClass::kManagement, 0, record);
  absl::StatusOr<std::vector<SealedBatch>> sealed = sealer_->Close(0, seen);
  CHECK_OK(sealed.status());
  CHECK(sealed->size() == 1);  // a test that outlives 1,023 batches opens another epoch
  return Admit(std::move(sealed->front()));
}

Admitted TestAgent::BatchOf(std::span<const Item> items) {
  for (const Item& item : items) sealer_->Add(item.event_class, item.flags, item.body);
  return Batch({});
}

Admitted TestAgent::Heartbeat(Seen seen) { return Batch({}, seen); }

Admitted TestAgent::Close() {
  absl::StatusOr<std::vector<SealedBatch>> sealed = sealer_->CloseEpoch(0, Seen{});
  CHECK_OK(sealed.status());
  CHECK(sealed->size() == 1);
  return Admit(std::move(sealed->front()));
}

Admitted TestAgent::WithoutBodies(const Admitted& whole) {
  const FrameView view = *FrameView::Decode(whole.leaf->bytes);
  return Admit({whole.leaf->header, BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt), whole.leaf->hash});
}

Admitted TestAgent::Admit(SealedBatch sealed) {
  sealer_->Committed();
  absl::StatusOr<std::shared_ptr<Leaf>> leaf = InflateLeaf(std::move(sealed.frame), "", zstd_, admitter_);
  CHECK_OK(leaf.status());
  const BatchHeader& h = sealed.header;
  head_.epoch = h.epoch;
  head_.batch_seq = h.batch_seq;
  head_.last_seq = h.last_seq;
  head_.leaf = sealed.leaf;
  head_.cum_events = h.cum_events;
  head_.cum_lost = h.cum_lost;
  head_.boot_id = h.boot_id;
  head_.boot_close_ns = h.boot_close_ns;
  head_.wall_close_ns = h.wall_close_ns;
  head_.seen_size = h.seen_size;
  head_.policy_version = h.policy_version;
  head_.keytree_root = h.keytree_root;
  head_.closed = h.kind == BatchKind::kEpochClose;
  Admitted item;
  item.batch = BatchId{h.agent_uuid, h.epoch, h.batch_seq};
  item.leaf = *std::move(leaf);
  item.head = head_;
  return item;
}

std::string TestRecord(uint64_t n, std::string_view account, std::string_view region, absl::Time event_time,
                       std::string_view event_name, std::string_view user) {
  char id[40];
  std::snprintf(id, sizeof id, "%08x-0000-4000-8000-%012llx", static_cast<unsigned>(n & 0xffffffff),
                static_cast<unsigned long long>(n));
  std::string r = R"({"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::)";
  r += account;
  r += ":user/";
  r += user;
  r += R"(","accountId":")";
  r += account;
  r += R"(","accessKeyId":"AKIAIOSFODNN7EXAMPLE","userName":")";
  r += user;
  r += R"("},"eventTime":")";
  r += Rfc3339(event_time);
  r += R"(","eventSource":"s3.amazonaws.com","eventName":")";
  r += event_name;
  r += R"(","awsRegion":")";
  r += region;
  r += R"(","sourceIPAddress":"192.0.2.)" + std::to_string(n % 250 + 1);
  r += R"(","userAgent":"aws-cli/2.15","requestParameters":{"bucketName":"records","key":"object-)" + std::to_string(n);
  r += R"("},"responseElements":null,"requestID":"R)" + std::to_string(n);
  r += R"(","eventID":")";
  r += id;
  r += R"(","readOnly":false,"resources":[{"type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::records"}],"eventType":"AwsApiCall",)"
       R"("managementEvent":true,"recipientAccountId":")";
  r += account;
  r += R"(","eventCategory":"Management"})";
  return r;
}

Admitted ControlItem(std::string entry) {
  Admitted item;
  item.leaf = std::make_shared<Leaf>();
  item.leaf->bytes = std::move(entry);
  return item;
}

LedgerBuilder::LedgerBuilder(std::string dir, StillClock& with_clock, uint64_t seed, std::string with_origin)
    : clock(with_clock), rng(seed), log_key(SigningKey::FromSeed(rng.Bytes(32))), origin(std::move(with_origin)) {
  options.dir = dir + "/ledger";
  options.anchor_dir = dir + "/anchor";
  options.map_bytes = 64 << 20;
}

absl::Status LedgerBuilder::Open() {
  ledger.reset();
  ASSIGN_OR_RETURN(ledger, Ledger::Open(options, origin, options.read_only ? nullptr : &log_key, PosixFs(), clock));
  return absl::OkStatus();
}

absl::Status LedgerBuilder::Append(Admitted item) {
  std::vector<Admitted> group;
  group.push_back(std::move(item));
  return Append(std::move(group));
}

absl::Status LedgerBuilder::Append(std::vector<Admitted> group) { return ledger->Append(group).status(); }

TestAgent& LedgerBuilder::Enrol(std::string account, std::string region, std::string name, std::string carries) {
  agents_.push_back(std::make_unique<TestAgent>(std::move(account), std::move(region), std::move(name), origin, clock, rng));
  TestAgent& agent = *agents_.back();
  CHECK_OK(Append(ControlItem(agent.Enrolment(std::move(carries)).Encode())));
  CHECK_OK(Append(agent.Open()));
  return agent;
}

absl::Status LedgerBuilder::Fill(TestAgent& agent, size_t n) {
  clock.Advance(absl::Seconds(1));
  std::vector<std::string> made;
  made.reserve(n);
  for (size_t i = 0; i < n; ++i) made.push_back(TestRecord(records++, agent.identity().account, agent.identity().region, clock.wall));
  return Append(agent.Batch(made));
}

}  // namespace orgtrail
