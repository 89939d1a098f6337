#include <gtest/gtest.h>

#include <random>

#include "aggregator/transparency/event_proof.h"
#include "aggregator/transparency/service.h"
#include "common/merkle/tree.h"
#include "tests/support/temp_history.h"

namespace orgtrail {
namespace {

const Identity kAuditor{Identity::Kind::kAuditor, "o-demo", "", "", "ann"};
const Identity kUser{Identity::Kind::kUser, "o-demo", "111111111111", "", "uma"};
const Identity kOperator{Identity::Kind::kOperator, "o-demo", "", "", "olga"};

class TransparencyTest : public testing::Test {
 protected:
  TransparencyTest()
      : completeness_(*t_.builder.ledger, registry_, *t_.history, [](const AgentHead&) { return true; }, t_.clock),
        lookup_(*t_.history, *t_.builder.ledger, completeness_, std::string(32, 'k')),
        one_(t_.builder.Enrol("111111111111", "eu-west-1", "web-1")), two_(t_.builder.Enrol("222222222222", "us-east-1", "web-2")),
        transparency_(*t_.builder.ledger, registry_, lookup_, completeness_, Key().Encode()) {
    CHECK_OK(registry_.Load(*t_.builder.ledger));
    for (int i = 0; i < 3; ++i) {
      CHECK_OK(t_.builder.Fill(one_, 5));
      CHECK_OK(t_.builder.Fill(two_, 3));
    }
    t_.Settle();
  }
  NoteKey Key() const {
    NoteKey key;
    key.name = t_.builder.origin;
    key.key = t_.builder.log_key.public_key();
    return key;
  }
  TempHistory t_;
  Registry registry_;
  Completeness completeness_;
  Lookup lookup_;
  TestAgent& one_;
  TestAgent& two_;
  Transparency transparency_;
};

TEST_F(TransparencyTest, ConsistencyAtTheEdges) {
  const uint64_t size = t_.builder.ledger->head().size;
  ASSERT_GE(size, 6u);
  struct Case {
    uint64_t from, to;
    absl::StatusCode want;
  };
  const Case cases[] = {
      {3, 5, absl::StatusCode::kOk},
      {5, 5, absl::StatusCode::kOk},
      {1, 0, absl::StatusCode::kOk},                    // 0: the newest
      {5, 3, absl::StatusCode::kInvalidArgument},
      {0, 5, absl::StatusCode::kInvalidArgument},
      {0, 0, absl::StatusCode::kInvalidArgument},
      {1, size + 1, absl::StatusCode::kOutOfRange},
      {size + 1, 0, absl::StatusCode::kOutOfRange},
      {1, UINT64_MAX, absl::StatusCode::kOutOfRange},
      {UINT64_MAX, UINT64_MAX, absl::StatusCode::kOutOfRange},
      {UINT64_MAX, 5, absl::StatusCode::kInvalidArgument},
  };
  for (const Case& c : cases) {
    v1::GetConsistencyRequest request;
    request.set_old_size(c.from);
    request.set_new_size(c.to);
    const absl::StatusOr<v1::ConsistencyResponse> got = transparency_.Consistency(request);
    EXPECT_EQ(got.status().code(), c.want) << c.from << "," << c.to << " " << got.status();
    if (!got.ok()) continue;
    std::vector<Hash> path;
    for (const std::string& h : got->path()) path.push_back(Hash::From(h));
    EXPECT_TRUE(VerifyConsistency(c.from, *t_.builder.ledger->Root(c.from), got->new_size(),
                                  *t_.builder.ledger->Root(got->new_size()), path).ok());
  }
}

TEST_F(TransparencyTest, InclusionByIndexHashAndBatch) {
  const SignedHead head = t_.builder.ledger->head();
  for (uint64_t i = 0; i < head.size; ++i) {
    v1::GetInclusionRequest request;
    request.set_leaf_index(i);
    absl::StatusOr<v1::InclusionResponse> got = transparency_.Inclusion(request);
    ASSERT_TRUE(got.ok()) << got.status();
    std::vector<Hash> path;
    for (const std::string& h : got->path()) path.push_back(Hash::From(h));
    EXPECT_TRUE(VerifyInclusion(Hash::From(got->leaf_hash()), i, head.size, path, head.root).ok());
    request.set_leaf_hash(got->leaf_hash());
    EXPECT_EQ(transparency_.Inclusion(request)->leaf_index(), i);
  }
  v1::GetInclusionRequest request;
  EXPECT_TRUE(absl::IsInvalidArgument(transparency_.Inclusion(request).status()));
  request.mutable_batch()->set_agent_uuid(std::string(one_.identity().uuid.view()));
  request.mutable_batch()->set_epoch(1);
  EXPECT_TRUE(transparency_.Inclusion(request).ok());
  request.mutable_batch()->set_epoch(9);
  EXPECT_TRUE(absl::IsNotFound(transparency_.Inclusion(request).status()));
  request.set_leaf_hash("short");
  EXPECT_TRUE(absl::IsInvalidArgument(transparency_.Inclusion(request).status()));
  request.set_leaf_index(UINT64_MAX);
  EXPECT_TRUE(absl::IsOutOfRange(transparency_.Inclusion(request).status()));
  request.set_tree_size(UINT64_MAX);
  EXPECT_TRUE(absl::IsOutOfRange(transparency_.Inclusion(request).status()));
}

TEST_F(TransparencyTest, TilesAtTheEdges) {
  const uint64_t size = t_.builder.ledger->head().size;
  struct Case {
    uint32_t level;
    uint64_t index;
    uint64_t width;
    absl::StatusCode want;
  };
  const Case cases[] = {
      {0, 0, size, absl::StatusCode::kOk},           {0, 0, size + 1, absl::StatusCode::kOutOfRange},
      {0, 1, 1, absl::StatusCode::kOutOfRange},      {0, UINT64_MAX, 1, absl::StatusCode::kOutOfRange},
      {1, 0, 1, absl::StatusCode::kOutOfRange},      {8, 0, 1, absl::StatusCode::kInvalidArgument},
      {0, 0, 257, absl::StatusCode::kInvalidArgument}, {0, 0, 0, absl::StatusCode::kOutOfRange},
  };
  for (const Case& c : cases) {
    v1::GetTileRequest request;
    request.set_level(c.level);
    request.set_index(c.index);
    request.set_width(static_cast<uint32_t>(c.width));
    const absl::StatusOr<v1::TileResponse> got = transparency_.Tile(request);
    EXPECT_EQ(got.status().code(), c.want) << c.level << "/" << c.index << "/" << c.width;
    if (got.ok()) {
      EXPECT_EQ(got->hashes().size(), c.width * 32);
    }
  }
}

TEST_F(TransparencyTest, AnEventProofVerifiesAndAnyFlippedByteFails) {
  const v1::LookupRequest all;
  const absl::StatusOr<v1::LookupResponse> events = lookup_.Find(kUser, all);
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events->events_size(), 15);
  const v1::Envelope& at = events->events(4).envelope();
  v1::GetEventProofRequest request;
  request.set_at_set(true);
  request.set_leaf_index(at.leaf_index());
  request.set_event_index(at.event_index());
  const absl::StatusOr<v1::EventProofResponse> made = transparency_.Proof(kUser, request);
  ASSERT_TRUE(made.ok()) << made.status();
  const TrustPolicy trust{{Key()}};
  const absl::StatusOr<EventProof> proof = EventProof::Decode(made->proof());
  ASSERT_TRUE(proof.ok()) << proof.status();
  EXPECT_EQ(proof->body, events->events(4).record());
  const absl::StatusOr<ProofFacts> facts = VerifyProof(*proof, trust);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->header.account, "111111111111");
  std::mt19937 random(2);
  for (int i = 0; i < 400; ++i) {
    std::string bad = made->proof();
    const size_t where = random() % bad.size();
    bad[where] = static_cast<char>(bad[where] ^ (1 << random() % 7));
    const absl::StatusOr<EventProof> decoded = EventProof::Decode(bad);
    if (!decoded.ok()) continue;
    EXPECT_FALSE(VerifyProof(*decoded, trust).ok() && decoded->Encode() != made->proof()) << where;
  }
  // Not to another account, not to operators.
  request.set_leaf_index(at.leaf_index() + 1);
  EXPECT_TRUE(absl::IsNotFound(transparency_.Proof(kUser, request).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(transparency_.Proof(kOperator, request).status()));
  request.set_leaf_index(UINT64_MAX);
  EXPECT_TRUE(absl::IsOutOfRange(transparency_.Proof(kAuditor, request).status()));
}

TEST_F(TransparencyTest, AProofByEventIdOrItsCandidates) {
  const std::string twice = TestRecord(777, "111111111111", "eu-west-1", t_.clock.wall, "PutObject");
  ASSERT_TRUE(t_.builder.Append(one_.Batch(std::vector<std::string>{twice})).ok());
  t_.history->Step(t_.clock.now);
  v1::GetEventProofRequest request;
  const std::string id = "00000309-0000-4000-8000-000000000309";
  ASSERT_NE(twice.find(id), std::string::npos);
  request.set_event_id(id);
  absl::StatusOr<v1::EventProofResponse> got = transparency_.Proof(kAuditor, request);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(VerifyProof(*EventProof::Decode(got->proof()), TrustPolicy{{Key()}}).ok());
  ASSERT_TRUE(t_.builder.Append(one_.Batch(std::vector<std::string>{twice})).ok());
  t_.history->Step(t_.clock.now);
  got = transparency_.Proof(kAuditor, request);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(got->proof().empty());
  EXPECT_EQ(got->candidates_size(), 2);
  request.set_event_id("none");
  EXPECT_TRUE(absl::IsNotFound(transparency_.Proof(kAuditor, request).status()));
}

TEST_F(TransparencyTest, TheStatementCountsWhatHeadersSay) {
  v1::GetCompletenessRequest request;
  absl::StatusOr<v1::CompletenessStatement> got = transparency_.Completeness(kOperator, request);
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->ranges_size(), 2);
  got = transparency_.Completeness(kUser, request);
  ASSERT_EQ(got->ranges_size(), 1);
  EXPECT_EQ(got->ranges(0).name(), "111111111111/eu-west-1/web-1");
  EXPECT_EQ(got->ranges(0).cum_events(), 15u);
  EXPECT_EQ(got->ranges(0).first_batch_seq(), 0u);
  EXPECT_EQ(got->ranges(0).last_batch_seq(), 3u);
  EXPECT_EQ(got->ranges(0).how_ended(), "open");
  EXPECT_EQ(got->ranges(0).holes_size(), 0);
  EXPECT_EQ(got->findings_size(), 0);
  t_.clock.Advance(absl::Minutes(10));
  ASSERT_TRUE(t_.builder.Append(one_.Heartbeat()).ok());
  ASSERT_TRUE(t_.builder.Append(one_.Close()).ok());
  got = transparency_.Completeness(kUser, request);
  EXPECT_EQ(got->ranges(0).how_ended(), "closed");
  EXPECT_EQ(got->ranges(0).silences_size(), 1);
  two_.Lose(7);
  const std::vector<TestAgent::Item> loss = {{EventClass::kLoss, 0, R"({"eventSource":"orgtrail","eventName":"Loss","serviceEventDetails":{"cause":"spool_full","count":5,"firstSequence":10,"lastSequence":14}})"}};
  ASSERT_TRUE(t_.builder.Append(two_.BatchOf(loss)).ok());
  got = transparency_.Completeness(kOperator, request);
  ASSERT_EQ(got->ranges_size(), 2);
  const auto& holes = got->ranges(0).name() == "222222222222/us-east-1/web-2" ? got->ranges(0).holes() : got->ranges(1).holes();
  ASSERT_EQ(holes.size(), 1);
  EXPECT_EQ(holes[0], "7 lost in seq 10-17: 5 spool_full, 2 unexplained");
  request.set_account("222222222222");
  EXPECT_TRUE(absl::IsPermissionDenied(transparency_.Completeness(kUser, request).status()));
  request.set_account("333333333333");
  got = transparency_.Completeness(kAuditor, request);
  ASSERT_EQ(got->findings_size(), 1);
}

}  // namespace
}  // namespace orgtrail
