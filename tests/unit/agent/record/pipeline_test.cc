#include "agent/record/pipeline.h"

#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <map>
#include <thread>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/format/chain.h"
#include "common/merkle/tree.h"
#include "tests/support/fixed_world.h"
#include "tests/support/sized_fs.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Stored {          // one batch as the spool holds it
  BatchHeader header;
  EpochOpening opening;
  std::vector<std::string> bodies;
  std::vector<uint16_t> classes, flags;
};

class PipelineTest : public ::testing::Test {
 protected:
  PipelineTest() : uuid_(Uuid::Random(rng_)), key_(SigningKey::Generate(rng_)) {
    options_.origin = "orgtrail.test/o-demo";
    options_.sync_limit = absl::Seconds(20);
    Start();
  }
  void Start() {
    spool_ = *Spool::Open(dir_ / "spool", {.max_bytes = 64 * kMiB, .min_free = 0.10}, fs_, clock_);
    pipeline_ = std::make_unique<Pipeline>(AgentIdentity{uuid_, "o-demo", "222222222222", "eu-west-1", "web-1"}, key_,
                                           *spool_, options_, clock_, rng_, metrics_);
    opened_ = pipeline_->Open();
  }
  void Crash() {
    pipeline_.reset();
    spool_.reset();
    clock_.Pass(absl::Seconds(5));
    Start();
  }
  void Full(bool full) { fs_.full = full; }
  Tick Step(absl::Duration pass = absl::ZeroDuration()) {
    clock_.Pass(pass);
    return pipeline_->Step(clock_.Now());
  }
  RawChunk Chunk(const std::vector<std::string>& texts) {   // its views live as long as the test
    RawChunk chunk;
    chunk.source = "test";
    for (const std::string& t : texts) chunk.texts.push_back(texts_.emplace_back(t));
    return chunk;
  }
  static std::string Record(int n, size_t padding = 0) {
    std::string text = "{\"eventVersion\":\"1.08\",\"eventTime\":\"2026-11-21T08:00:00Z\",\"awsRegion\":\"eu-west-1\",\"eventID\":\"id-" + std::to_string(n) +
                       "\",\"recipientAccountId\":\"222222222222\"";
    if (padding != 0) text += ",\"x\":\"" + std::string(padding, 'p') + "\"";
    return text + "}";
  }
  absl::StatusOr<Taken> Take(const std::vector<std::string>& texts) {
    RawChunk chunk;
    chunk.texts.assign(texts.begin(), texts.end());
    return pipeline_->Take(chunk);
  }
  // A sync call on a thread of its own, stepped until it is answered.
  absl::StatusOr<Taken> Sync(RawChunk chunk) {
    chunk.sync = true;
    auto answer = std::async(std::launch::async, [&] { return pipeline_->Take(chunk); });
    while (answer.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Step(absl::Milliseconds(5));
    return answer.get();
  }
  // Everything in the spool; each batch continues the one before it and holds what its header signed.
  std::vector<Stored> All() {
    std::vector<Stored> all;
    ChainState chain;
    ZstdDecompressor zstd;
    for (BatchKey at;;) {
      auto next = spool_->Next(at);
      CHECK_OK(next.status());
      if (!*next) return all;
      at = (*next)->first;
      const FrameView view = *FrameView::Decode((*next)->second);
      const BatchEntry entry = *BatchEntry::Decode(view.entry);
      Stored s{entry.header, {}, {}, {}, {}};
      Hash root;
      EXPECT_TRUE(CheckExtension(entry.header, view.extension, &s.opening, &root).ok());
      const bool opens = entry.header.kind == BatchKind::kEpochOpen;
      chain.uuid = uuid_;
      EXPECT_EQ(CheckLink(chain, entry.header, opens ? &s.opening : nullptr), absl::OkStatus()) << at.epoch << "/" << at.batch_seq;
      chain = Advance(chain, entry.header, LeafHash(view.entry), root);
      Events events = *InflateFrame(view, zstd);
      EXPECT_TRUE(CheckRows(entry.header, events.rows, HashRows(view.batch_key, events.rows)).ok());
      for (const Row& row : events.rows) {
        s.bodies.emplace_back(row.body);
        s.classes.push_back(row.event_class);
        s.flags.push_back(row.flags);
      }
      all.push_back(std::move(s));
    }
  }
  std::vector<std::string> Bodies() {
    std::vector<std::string> bodies;
    for (const Stored& s : All()) bodies.insert(bodies.end(), s.bodies.begin(), s.bodies.end());
    return bodies;
  }

  TempDir dir_;
  std::deque<std::string> texts_;
  SizedFs fs_;
  FixedClock clock_;
  RepeatingRng rng_{"pipeline"};
  const Uuid uuid_;
  const SigningKey key_;
  Metrics metrics_;
  PipelineOptions options_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Pipeline> pipeline_;
  absl::Status opened_;
};

TEST_F(PipelineTest, OpensItsFirstEpoch) {
  ASSERT_EQ(opened_, absl::OkStatus());
  const std::vector<Stored> all = All();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].header.kind, BatchKind::kEpochOpen);
  EXPECT_EQ(all[0].header.epoch, 1u);
  EXPECT_EQ(all[0].opening.reason, EpochReason::kFirst);
  EXPECT_EQ(all[0].opening.origin, options_.origin);
  EXPECT_EQ(all[0].opening.clock_source, "ntp");
}

TEST_F(PipelineTest, ASyncCallerIsAnsweredAfterTheCommit) {
  RawChunk chunk = Chunk({"{\"eventName\":\"A\"}", "not json"});
  chunk.positions.push_back({.key = "k", .path = "/x", .offset = 9, .finished = false, .mark = "", .forget = false});
  chunk.idempotency_key = "key";
  chunk.idempotent_reply = "reply";
  chunk.replies.emplace_back("other", "answer");
  auto taken = Sync(chunk);
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->first_seq, 1u);
  EXPECT_EQ(taken->accepted, 2u);
  EXPECT_EQ(taken->wrapped, 1u);
  ASSERT_EQ(taken->event_ids.size(), 2u);
  EXPECT_EQ(taken->event_ids[0].size(), 36u);
  const std::vector<Stored> all = All();  // in the spool when the caller is answered
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].bodies.size(), 2u);
  EXPECT_NE(all[1].flags[0] & kFlagSync, 0);
  EXPECT_EQ(pipeline_->Positions()->size(), 1u);
  EXPECT_EQ(*pipeline_->IdempotentReply("key"), "reply");
  EXPECT_EQ(*pipeline_->IdempotentReply("other"), "answer");
  EXPECT_TRUE(absl::IsNotFound(pipeline_->IdempotentReply("third").status()));
}

TEST_F(PipelineTest, NothingIsCapturedBeforeTheCommit) {
  RawChunk chunk = Chunk({Record(1)});
  chunk.positions.push_back({.key = "k", .path = "/x", .offset = 9, .finished = false, .mark = "", .forget = false});
  ASSERT_TRUE(pipeline_->Take(chunk).ok());
  EXPECT_TRUE(Bodies().empty());
  EXPECT_TRUE(pipeline_->Positions()->empty());
  Crash();  // neither the record nor its position: the source reads it again
  EXPECT_TRUE(Bodies().empty());
  EXPECT_TRUE(pipeline_->Positions()->empty());
  ASSERT_TRUE(pipeline_->Take(chunk).ok());
  Step(absl::Milliseconds(20));
  EXPECT_EQ(Bodies(), std::vector<std::string>{Record(1)});
  EXPECT_EQ(pipeline_->Positions()->size(), 1u);
}

TEST_F(PipelineTest, ClosesByTimeCountAndSize) {
  struct Case {
    const char* what;
    bool sync;
    absl::Duration pass;
    int records;
    size_t padding;
    size_t batches;
  };
  for (const Case& c : {Case{"before the interval nothing closes", false, absl::Milliseconds(19), 1, 0, 0},
                        {"the interval closes", false, absl::Milliseconds(20), 1, 0, 1},
                        {"1,000 records close at once", false, absl::ZeroDuration(), 1000, 0, 1},
                        {"2,001 in one chunk make three at once: a chunk ends where its position is stored", false, absl::ZeroDuration(), 2001, 0, 3},
                        {"1 MiB closes at once", false, absl::ZeroDuration(), 3, 400'000, 1},
                        {"a position alone closes with the interval", false, absl::Milliseconds(20), 0, 0, 1}}) {
    SCOPED_TRACE(c.what);
    Step(absl::Milliseconds(25));
    ASSERT_TRUE(Take({Record(0)}).ok());
    Step(absl::Milliseconds(20));
    const size_t before = All().size();
    std::vector<std::string> texts;
    for (int i = 0; i < c.records; ++i) texts.push_back(Record(i, c.padding));
    RawChunk chunk = Chunk(texts);
    if (texts.empty()) chunk.positions.push_back({.key = "k", .path = "/x", .offset = 1, .finished = false, .mark = "", .forget = false});
    ASSERT_TRUE(pipeline_->Take(chunk).ok());
    Step(c.pass);
    EXPECT_EQ(All().size() - before, c.batches);
  }
}

TEST_F(PipelineTest, AChunkThatSpansBatchesIsStoredWithItsPosition) {
  ASSERT_TRUE(Take({Record(0)}).ok());
  std::vector<std::string> texts;
  for (int i = 1; i <= 1200; ++i) texts.push_back(Record(i));
  RawChunk chunk = Chunk(texts);
  chunk.positions.push_back({.key = "k", .path = "/x", .offset = 7, .finished = false, .mark = "", .forget = false});
  ASSERT_TRUE(pipeline_->Take(chunk).ok());
  Step(absl::ZeroDuration());  // the full batch is due at once; a crash after its commit must not find the old position
  const absl::StatusOr<std::vector<FilePosition>> stored = pipeline_->Positions();
  ASSERT_TRUE(stored.ok());
  ASSERT_EQ(stored->size(), 1u);
  EXPECT_EQ(stored->front().offset, 7u);
}

TEST_F(PipelineTest, ASyncBatchWaitsFiveMillisecondsAtMost) {
  options_.sync_limit = absl::ZeroDuration();
  Crash();
  ASSERT_TRUE(Take({Record(0)}).ok());
  Step(absl::Milliseconds(20));
  const size_t before = All().size();
  RawChunk chunk = Chunk({Record(1)});
  chunk.sync = true;
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->Take(chunk).status()));  // nobody steps: not answered
  Step(absl::Milliseconds(4));
  EXPECT_EQ(All().size(), before);
  const Tick next = Step(absl::Milliseconds(1));
  EXPECT_EQ(All().size(), before + 1);
  EXPECT_LE(next, clock_.Now() + absl::Milliseconds(20));
  ASSERT_TRUE(Take({Record(2)}).ok());   // and the hurry is over
  Step(absl::Milliseconds(5));
  EXPECT_EQ(All().size(), before + 1);
}

TEST_F(PipelineTest, ReceiptsSetTheIntervals) {
  pipeline_->SetIntervals(absl::Milliseconds(200), absl::Seconds(60));
  ASSERT_TRUE(Take({Record(0)}).ok());
  Step(absl::Milliseconds(199));
  EXPECT_TRUE(Bodies().empty());
  Step(absl::Milliseconds(1));
  EXPECT_EQ(Bodies().size(), 1u);
  pipeline_->SetIntervals(absl::ZeroDuration(), absl::ZeroDuration());  // unchanged
  const size_t batches = All().size();
  Step(absl::Seconds(59));
  EXPECT_EQ(All().size(), batches);
  Step(absl::Seconds(1));
  EXPECT_EQ(All().size(), batches + 1);
  pipeline_->SetIntervals(absl::Seconds(9), absl::Hours(1));  // at most 1 s and 60 s
  ASSERT_TRUE(Take({Record(1)}).ok());
  Step(absl::Seconds(1));
  EXPECT_EQ(Bodies().size(), 2u);
}

TEST_F(PipelineTest, BeatsWhenThereIsNothingToSay) {
  Step(absl::Milliseconds(9999));
  EXPECT_EQ(All().size(), 1u);
  Step(absl::Milliseconds(1));
  ASSERT_EQ(All().size(), 2u);
  EXPECT_EQ(All()[1].header.kind, BatchKind::kHeartbeat);
  ASSERT_TRUE(Take({Record(0)}).ok());
  Step(absl::Seconds(9));
  Step(absl::Seconds(9));   // data counts as a sign of life
  EXPECT_EQ(All().size(), 3u);
}

TEST_F(PipelineTest, AFullSpoolRefusesAndResumesInOrder) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  Full(true);
  Step(absl::Milliseconds(20));
  ASSERT_TRUE(Bodies().empty());
  for (bool sync : {false, true}) {
    RawChunk chunk = Chunk({Record(9)});
    chunk.sync = sync;
    EXPECT_TRUE(absl::IsResourceExhausted(pipeline_->Take(chunk).status())) << sync;
  }
  pipeline_->Note("While.full", "{}");     // orgtrail's own records keep their place behind what waits
  const Tick again = Step(absl::Seconds(1));
  EXPECT_EQ(again, clock_.Now() + absl::Seconds(1));
  EXPECT_TRUE(Bodies().empty());
  Full(false);
  Step(absl::Seconds(1));
  ASSERT_TRUE(Take({Record(2)}).ok());
  Step(absl::Milliseconds(20));
  const std::vector<std::string> bodies = Bodies();
  ASSERT_EQ(bodies.size(), 3u);
  EXPECT_EQ(bodies[0], Record(1));
  EXPECT_NE(bodies[1].find("While.full"), std::string::npos);
  EXPECT_EQ(bodies[2], Record(2));
}

TEST_F(PipelineTest, WhatClosesDuringAFailingCommitComesAfterIt) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  Full(true);
  fs_.asked = [&] {
    fs_.asked = nullptr;
    EXPECT_TRUE(Take(std::vector<std::string>(1000, Record(2))).ok());   // closes at once
  };
  Step(absl::Milliseconds(20));
  Full(false);
  Step(absl::Seconds(1));
  const std::vector<std::string> bodies = Bodies();   // checks every link
  ASSERT_EQ(bodies.size(), 1001u);
  EXPECT_EQ(bodies.front(), Record(1));
}

TEST_F(PipelineTest, AnAgentStartsOnAFullSpool) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  Step(absl::Milliseconds(20));
  Full(true);
  Crash();
  EXPECT_EQ(opened_, absl::OkStatus());   // or nothing would ever be sent, and the spool stay full
  EXPECT_TRUE(absl::IsResourceExhausted(Take({Record(2)}).status()));
  Full(false);
  Step(absl::Seconds(1));
  ASSERT_TRUE(Take({Record(2)}).ok());
  Step(absl::Milliseconds(20));
  EXPECT_EQ(Bodies(), (std::vector<std::string>{Record(1), Record(2)}));
  EXPECT_EQ(All().back().header.epoch, 2u);
}

TEST_F(PipelineTest, OrderIsThatOfTheCallsWhoeverMadeThem) {
  std::map<std::string, uint64_t> seqs;
  std::vector<std::future<std::vector<std::pair<std::string, uint64_t>>>> sources;
  for (int t = 0; t < 3; ++t) {
    sources.push_back(std::async(std::launch::async, [this, t] {
      std::vector<std::pair<std::string, uint64_t>> out;
      for (int i = 0; i < 50; ++i) {
        const std::string text = Record(t * 1000 + i);
        auto taken = Take({text});
        EXPECT_TRUE(taken.ok());
        out.emplace_back(text, taken->first_seq);
      }
      return out;
    }));
  }
  for (auto& s : sources) {
    while (s.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Step(absl::Milliseconds(5));
    for (auto& [text, seq] : s.get()) seqs[text] = seq;
  }
  Step(absl::Milliseconds(20));
  const std::vector<std::string> bodies = Bodies();
  ASSERT_EQ(bodies.size(), 150u);
  for (size_t i = 0; i < bodies.size(); ++i) EXPECT_EQ(seqs[bodies[i]], i + 1);
}

TEST_F(PipelineTest, ARetryBeforeTheLateCommitIsNotStoredTwice) {
  options_.sync_limit = absl::Milliseconds(1);
  Crash();
  RawChunk chunk = Chunk({Record(1)});
  chunk.sync = true;
  chunk.idempotency_key = "once";
  chunk.idempotent_reply = "done";
  chunk.replies.emplace_back("event-1", "digest");
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->Take(chunk).status()));     // the disk is slow: the caller gave up
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->IdempotentReply("once").status()));
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->IdempotentReply("event-1").status()));
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->Take(chunk).status()));     // its retry
  RawChunk part = Chunk({Record(1)});
  part.replies.emplace_back("event-1", "digest");
  EXPECT_TRUE(absl::IsUnavailable(pipeline_->Take(part).status()));      // and one that holds the event among others
  Step(absl::Milliseconds(20));
  EXPECT_EQ(*pipeline_->IdempotentReply("once"), "done");
  EXPECT_EQ(*pipeline_->IdempotentReply("event-1"), "digest");
  EXPECT_EQ(Bodies().size(), 1u);
}

TEST_F(PipelineTest, ARetryWaitsForTheCommitUnderWay) {
  RawChunk chunk = Chunk({Record(1)});
  chunk.idempotency_key = "once";
  chunk.idempotent_reply = "done";
  ASSERT_TRUE(pipeline_->Take(chunk).ok());
  auto reply = std::async(std::launch::async, [&] { return pipeline_->IdempotentReply("once"); });
  while (reply.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Step(absl::Milliseconds(5));
  EXPECT_EQ(*reply.get(), "done");
}

TEST_F(PipelineTest, KeysOutliveAFullSpool) {
  RawChunk chunk = Chunk({Record(1)});
  chunk.idempotency_key = "once";
  chunk.idempotent_reply = "done";
  ASSERT_TRUE(pipeline_->Take(chunk).ok());
  Full(true);
  Step(absl::Milliseconds(20));
  Full(false);
  EXPECT_TRUE(absl::IsResourceExhausted(pipeline_->Take(chunk).status()));
  Step(absl::Seconds(1));
  EXPECT_EQ(*pipeline_->IdempotentReply("once"), "done");
  EXPECT_EQ(Bodies().size(), 1u);
}

TEST_F(PipelineTest, WhatTheSpoolCouldNotStoreIsRefusedAtTheDoor) {
  RawChunk long_key = Chunk({Record(1)}), long_reply = long_key, no_position = long_key, long_position = long_key;
  long_key.idempotency_key = std::string(1025, 'k');
  long_reply.replies.emplace_back(std::string(1025, 'k'), "");
  no_position.positions.push_back({});
  long_position.positions.push_back({.key = std::string(501, 'k'), .path = "", .offset = 0, .finished = false, .mark = "", .forget = false});
  for (const RawChunk& chunk : {long_key, long_reply, no_position, long_position}) {
    EXPECT_TRUE(absl::IsInvalidArgument(pipeline_->Take(chunk).status()));
  }
  Step(absl::Milliseconds(20));
  EXPECT_TRUE(Bodies().empty());
}

TEST_F(PipelineTest, ALossIsCountedAndExplainedInOneBatch) {
  std::vector<std::string> texts(999, Record(1));
  ASSERT_TRUE(Take(texts).ok());
  pipeline_->Lost("file:/x", "rotated", 0, "");          // nothing
  pipeline_->Lost("file:/x", "rotated \"away\"", 7, "detail");
  pipeline_->Lost("file:/x", "again", 2, "detail");      // the batch is full: both halves go into the next one
  Step(absl::Milliseconds(20));
  const std::vector<Stored> all = All();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1].header.n_events, 1000u);
  EXPECT_EQ(all[1].header.n_lost, 7u);
  EXPECT_EQ(all[1].classes.back(), static_cast<uint16_t>(EventClass::kLoss));
  EXPECT_NE(all[1].bodies.back().find("\"firstSequence\":1000,\"lastSequence\":1006"), std::string::npos) << all[1].bodies.back();
  EXPECT_EQ(all[2].header.n_lost, 2u);
  EXPECT_EQ(all[2].header.cum_lost, 9u);
  EXPECT_EQ(all[2].header.last_seq, 1010u);
}

TEST_F(PipelineTest, LossesBeyondWhatABatchCountsDoNotEndTheProcess) {
  pipeline_->Lost("x", "y", UINT32_MAX, "");
  pipeline_->Lost("x", "y", UINT32_MAX, "");
  Step(absl::Milliseconds(20));
  EXPECT_EQ(All().back().header.cum_lost, 2ull * UINT32_MAX);
}

TEST_F(PipelineTest, AClockStepIsOnRecordAndSlewingIsNot) {
  for (int i = 0; i < 50; ++i) {
    clock_.wall_ns += 400'000;  // 400 ppm, as a time service slews
    Step(absl::Seconds(1));
  }
  EXPECT_TRUE(Bodies().empty());
  clock_.wall_ns -= 3600'000'000'000;
  Step(absl::Milliseconds(20));
  Step(absl::Milliseconds(20));
  ASSERT_EQ(Bodies().size(), 1u);
  EXPECT_NE(Bodies()[0].find("\"ClockStep\""), std::string::npos);
  EXPECT_NE(Bodies()[0].find("\"stepNanoseconds\":-35"), std::string::npos) << Bodies()[0];
}

TEST_F(PipelineTest, TheClocksQualityIsOnRecordHourly) {
  Step(absl::Minutes(59));
  EXPECT_TRUE(Bodies().empty());
  Step(absl::Minutes(1));
  Step(absl::Milliseconds(20));
  ASSERT_EQ(Bodies().size(), 1u);
  EXPECT_NE(Bodies()[0].find("\"estimatedErrorMicroseconds\":120"), std::string::npos);
}

TEST_F(PipelineTest, ReopeningContinuesTheChain) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  Step(absl::Milliseconds(20));
  Crash();
  ASSERT_TRUE(Take({Record(2)}).ok());
  ASSERT_EQ(pipeline_->Close(false), absl::OkStatus());
  Crash();
  ASSERT_TRUE(Take({Record(3)}).ok());
  ASSERT_EQ(pipeline_->Close(true), absl::OkStatus());
  const std::vector<Stored> all = All();
  std::vector<std::pair<uint64_t, BatchKind>> kinds;
  for (const Stored& s : all) kinds.emplace_back(s.header.epoch, s.header.kind);
  EXPECT_EQ(kinds, (std::vector<std::pair<uint64_t, BatchKind>>{{1, BatchKind::kEpochOpen}, {1, BatchKind::kData},
                                                                {2, BatchKind::kEpochOpen}, {2, BatchKind::kData}, {2, BatchKind::kEpochClose},
                                                                {3, BatchKind::kEpochOpen}, {3, BatchKind::kData}, {3, BatchKind::kEpochClose}}));
  EXPECT_EQ(all[2].opening.reason, EpochReason::kUnclean);
  EXPECT_EQ(all[2].opening.previous_epoch, 1u);
  EXPECT_EQ(all[2].opening.previous_batch_seq, 1u);
  EXPECT_EQ(all[2].opening.previous_last_seq, 1u);
  EXPECT_EQ(all[5].opening.reason, EpochReason::kClean);
  EXPECT_EQ(all[5].opening.previous_epoch, 2u);
  EXPECT_EQ(all[5].opening.previous_batch_seq, 2u);
  EXPECT_EQ(all[4].header.flags & kBatchRetired, 0);
  EXPECT_NE(all[7].header.flags & kBatchRetired, 0);
}

TEST_F(PipelineTest, WhoPostedWhatStandsInTheSameBatch) {
  const auto post = [&](std::string by, std::vector<std::string> texts) {
    RawChunk chunk = Chunk(texts);
    chunk.posted_by = std::move(by);
    return pipeline_->Take(chunk);
  };
  ASSERT_TRUE(post("http:uid=1000 (alice)", {Record(1), Record(2)}).ok());
  ASSERT_TRUE(post("http:token (ci)", {Record(3)}).ok());
  ASSERT_TRUE(Take({Record(4)}).ok());                       // a file's: nobody to name
  ASSERT_TRUE(post("http:uid=1000 (alice)", {Record(5)}).ok());
  Step(absl::Milliseconds(20));
  std::vector<Stored> all = All();
  ASSERT_EQ(all.size(), 2u);
  ASSERT_EQ(all[1].bodies.size(), 7u);
  EXPECT_EQ(all[1].classes[5], static_cast<uint16_t>(EventClass::kOwn));
  EXPECT_NE(all[1].bodies[5].find(R"=("serviceEventDetails":{"postedBy":"http:uid=1000 (alice)","records":3,"ranges":[[1,2],[5,5]]})="), std::string::npos)
      << all[1].bodies[5];
  EXPECT_NE(all[1].bodies[6].find(R"=({"postedBy":"http:token (ci)","records":1,"ranges":[[3,3]]})="), std::string::npos) << all[1].bodies[6];

  // However many post however much: each batch says who posted its records, and holds no more than it may.
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(post("http:uid=" + std::to_string(i % 700), {Record(i)}).ok());
  ASSERT_TRUE(post("http:uid=0", std::vector<std::string>(2500, Record(0))).ok());
  Step(absl::Milliseconds(20));
  all = All();
  uint64_t records = 0, posted = 0;
  for (size_t b = 2; b < all.size(); ++b) {
    EXPECT_LE(all[b].header.n_events, 1000u);
    for (size_t i = 0; i < all[b].bodies.size(); ++i) {
      const size_t at = all[b].bodies[i].find("\"postedBy\":");
      if (at == std::string::npos) {
        ++records;
        continue;
      }
      const size_t count = all[b].bodies[i].find("\"records\":", at);
      posted += std::stoull(all[b].bodies[i].substr(count + 10));
    }
  }
  EXPECT_EQ(records, 5500u);
  EXPECT_EQ(posted, records);
}

TEST_F(PipelineTest, WhatCannotBeDeliveredIsRecordedOnceMore) {
  std::vector<std::string> records;
  for (int i = 0; i < 1000; ++i) records.push_back(Record(i));
  ASSERT_TRUE(Take(records).ok());
  Step(absl::Milliseconds(20));
  const std::string frame = *spool_->Read({1, 1});
  const FrameView view = *FrameView::Decode(frame);
  ZstdDecompressor zstd;
  const Events events = *InflateFrame(view, zstd);
  const BatchHeader header = BatchEntry::Decode(view.entry)->header;
  ASSERT_TRUE(pipeline_->NewEpoch(EpochReason::kUnclean).ok());
  for (int again = 0; again < 2; ++again) {   // the second time it is there
    auto answer = std::async(std::launch::async, [&] { return pipeline_->Recover(header, events.rows, {2, 0}); });
    while (answer.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) Step(absl::Milliseconds(5));
    EXPECT_TRUE(answer.get().ok());
  }
  std::vector<std::string> bodies;
  std::vector<uint16_t> flags;
  for (const Stored& s : All()) {
    if (s.header.epoch != 2) continue;
    bodies.insert(bodies.end(), s.bodies.begin(), s.bodies.end());
    flags.insert(flags.end(), s.flags.begin(), s.flags.end());
  }
  ASSERT_EQ(bodies.size(), 1001u);
  EXPECT_EQ(std::vector<std::string>(bodies.begin() + 1, bodies.end()), records);
  EXPECT_EQ(flags[500] & kFlagRecovered, kFlagRecovered);
  EXPECT_NE(bodies[0].find(R"("serviceEventDetails":{"epoch":1,"batch":1,"firstSequence":1,"lastSequence":1000,"records":1000,"newFirstSequence":2,)"),
            std::string::npos) << bodies[0];
}

TEST_F(PipelineTest, AnEndedIdentityTakesNothing) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  pipeline_->Refuse("the agent was revoked");
  EXPECT_TRUE(absl::IsResourceExhausted(Take({Record(2)}).status()));
  RawChunk sync = Chunk({Record(3)});
  sync.sync = true;
  EXPECT_EQ(pipeline_->Take(sync).status().message(), "the agent was revoked");
  Step(absl::Milliseconds(20));
  EXPECT_EQ(Bodies(), std::vector<std::string>{Record(1)});  // what was taken before is stored
  const size_t batches = All().size();
  Step(absl::Seconds(60));
  EXPECT_EQ(All().size(), batches);                          // and no heart beats
}

TEST_F(PipelineTest, NothingIsTakenAfterClose) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  RawChunk last = Chunk({});
  last.replies.emplace_back("only-a-reply", "kept");
  ASSERT_TRUE(pipeline_->Take(last).ok());
  ASSERT_EQ(pipeline_->Close(false), absl::OkStatus());
  ASSERT_EQ(pipeline_->Close(false), absl::OkStatus());
  EXPECT_TRUE(absl::IsUnavailable(Take({Record(2)}).status()));
  pipeline_->Lost("x", "y", 3, "");
  pipeline_->Note("Late", "{}");
  EXPECT_FALSE(pipeline_->NewEpoch(EpochReason::kHandover).ok());
  Step(absl::Minutes(1));
  EXPECT_EQ(Bodies(), std::vector<std::string>{Record(1)});
  EXPECT_EQ(All().back().header.kind, BatchKind::kEpochClose);
  EXPECT_EQ(*pipeline_->IdempotentReply("only-a-reply"), "kept");
}

TEST_F(PipelineTest, CloseOnAFullSpoolCanBeTriedAgain) {
  ASSERT_TRUE(Take({Record(1)}).ok());
  Full(true);
  EXPECT_TRUE(absl::IsResourceExhausted(pipeline_->Close(false)));
  Full(false);
  EXPECT_EQ(pipeline_->Close(false), absl::OkStatus());
  EXPECT_EQ(Bodies().size(), 1u);
  EXPECT_EQ(All().back().header.kind, BatchKind::kEpochClose);
}

TEST_F(PipelineTest, ANewEpochFollowsTheOldOnesLastBatch) {
  ASSERT_TRUE(Take({Record(1), Record(2)}).ok());
  Step(absl::Milliseconds(20));
  ASSERT_TRUE(Take({Record(3)}).ok());   // open: goes into the old epoch
  ASSERT_EQ(pipeline_->NewEpoch(EpochReason::kHandover).status(), absl::OkStatus());
  ASSERT_TRUE(Take({Record(4)}).ok());
  Step(absl::Milliseconds(20));
  const std::vector<Stored> all = All();
  ASSERT_EQ(all.size(), 5u);
  EXPECT_EQ(all[2].bodies, std::vector<std::string>{Record(3)});
  EXPECT_EQ(all[3].opening.reason, EpochReason::kHandover);
  EXPECT_EQ(all[3].opening.previous_epoch, 1u);
  EXPECT_EQ(all[3].opening.previous_batch_seq, 2u);
  EXPECT_EQ(all[3].opening.previous_last_seq, 3u);
  EXPECT_EQ(all[4].header.epoch, 2u);
  EXPECT_EQ(all[4].header.first_seq, 1u);
}

// Two threads that commit at once must not swap what they took: the spool refuses a batch out of order, and that ends the process.
TEST_F(PipelineTest, NewEpochsWhileTheWorkerCommits) {
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    while (!stop) pipeline_->Step(clock_.Now());
  });
  std::thread source([&] {
    for (int i = 0; !stop; ++i) EXPECT_TRUE(Take(std::vector<std::string>(1000, Record(i))).ok());
  });
  for (int i = 0; i < 6; ++i) EXPECT_EQ(pipeline_->NewEpoch(EpochReason::kUnclean).status(), absl::OkStatus());
  stop = true;
  worker.join();
  source.join();
  Step();
  EXPECT_EQ(All().back().header.epoch, 7u);
}

TEST_F(PipelineTest, ATreeOfKeysRollsInOrder) {
  for (int i = 0; i < 1030; ++i) {
    ASSERT_TRUE(Take({Record(i)}).ok());
    clock_.Pass(absl::Milliseconds(20));
    pipeline_->Step(clock_.Now());
  }
  const std::vector<Stored> all = All();   // checks every link
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [](const Stored& s) { return s.header.kind == BatchKind::kKeytreeRoll; }), 1);
  EXPECT_EQ(Bodies().size(), 1030u);
}

TEST_F(PipelineTest, HugeRecordsBecomeChunksInOrder) {
  const std::string huge = Record(1, 3 * kMiB);
  ASSERT_TRUE(Take({Record(0), huge, Record(2)}).ok());
  Step(absl::Milliseconds(20));
  std::string pieces;
  for (const Stored& s : All()) {
    EXPECT_LE(s.header.body_bytes, limits::kFrameRawBytes);
    for (size_t i = 0; i < s.bodies.size(); ++i) {
      if (s.classes[i] == static_cast<uint16_t>(EventClass::kChunk)) pieces += s.bodies[i];
    }
  }
  EXPECT_EQ(pieces, huge);
}

}  // namespace
}  // namespace orgtrail
