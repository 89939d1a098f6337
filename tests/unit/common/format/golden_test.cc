// One file per format ever shipped, decoded and encoded again byte for byte. The same inputs make the same bytes today: a change
// of format shows here first, and needs a new version and a new file. ORGTRAIL_WRITE_GOLDEN=1 writes files that are missing.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "common/format/retention.h"
#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

const std::string kDir = ORGTRAIL_SOURCE_DIR "/tests/golden/";

std::string Golden(const std::string& name, const std::string& made) {
  std::ifstream in(kDir + name, std::ios::binary);
  if (!in && std::getenv("ORGTRAIL_WRITE_GOLDEN") != nullptr) {
    std::ofstream(kDir + name, std::ios::binary) << made;
    return made;
  }
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct GoldenTest : testing::Test {
  GoldenTest() {
    log.Add("{\"eventName\":\"CreateUser\"}");
    log.Add("{\"eventName\":\"DeleteUser\"}");
    log.sealer.Lose(2);
    log.Close(kBatchDrained);
  }
  SealedLog log{"golden"};
};

TEST_F(GoldenTest, Entry) {
  const std::string made(FrameView::Decode(log.batches[1].frame)->entry);
  const std::string golden = Golden("otb1-data.bin", made);
  EXPECT_EQ(golden, made);
  absl::StatusOr<BatchEntry> entry = BatchEntry::Decode(golden);
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->header.Encode() + std::string(entry->slot_signature), golden);
  EXPECT_EQ(entry->header.n_lost, 2u);
}

TEST_F(GoldenTest, Frame) {
  const std::string golden = Golden("otf1-data.bin", log.batches[1].frame);
  absl::StatusOr<FrameView> view = FrameView::Decode(golden);
  ASSERT_TRUE(view.ok()) << view.status();
  ZstdDecompressor inflate;
  absl::StatusOr<Events> events = InflateFrame(*view, inflate);
  ASSERT_TRUE(events.ok()) << events.status();
  EXPECT_TRUE(CheckRows(BatchEntry::Decode(view->entry)->header, events->rows, HashRows(view->batch_key, events->rows)).ok());
  FramePacker packer;
  for (const Row& row : events->rows) packer.Add(row.flags, row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body);
  ZstdCompressor deflate(1);
  const std::string again = packer.Finish(view->entry, view->extension, view->batch_key, deflate);
  // Another release of zstd may compress to other bytes; what it compresses must stay.
  const FrameView packed = *FrameView::Decode(again);
  EXPECT_EQ(again.substr(0, again.size() - packed.packed.size()), golden.substr(0, golden.size() - view->packed.size()));
  std::string plain, plain_again;
  ASSERT_TRUE(inflate.Decompress(view->packed, limits::kFrameRawBytes, &plain).ok());
  ASSERT_TRUE(inflate.Decompress(packed.packed, limits::kFrameRawBytes, &plain_again).ok());
  EXPECT_EQ(plain, plain_again);
}

TEST_F(GoldenTest, EpochOpening) {
  const std::string made(FrameView::Decode(log.batches[0].frame)->extension);
  const std::string golden = Golden("oto1.bin", made);
  EXPECT_EQ(golden, made);
  absl::StatusOr<orgtrail::EpochOpening> opening = orgtrail::EpochOpening::Decode(golden);
  ASSERT_TRUE(opening.ok()) << opening.status();
  EXPECT_EQ(opening->Encode(), golden);
}

TEST_F(GoldenTest, Enrolment) {
  const std::string golden = Golden("otn1-enrolled.bin", log.entries[0]);
  EXPECT_EQ(golden, log.entries[0]);
  absl::StatusOr<IdentityLeaf> leaf = IdentityLeaf::Decode(golden);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->Encode(), golden);
}

TEST_F(GoldenTest, Retention) {
  const std::string order = SignNote(RetentionOrder{SealedLog::kOrigin, 400, 1'790'000'000'000'000'000}.Text(), "o-example/governance/ann", log.log_key);
  const std::string made = RetentionLeaf{1'790'086'400'000'000'000, 1042, 1'755'000'000'000'000'000, order}.Encode();
  const std::string golden = Golden("otr2.bin", made);
  EXPECT_EQ(golden, made);
  absl::StatusOr<RetentionLeaf> leaf = RetentionLeaf::Decode(golden);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  EXPECT_EQ(leaf->Encode(), golden);
}

TEST_F(GoldenTest, Proof) {
  const std::string made = log.Prove(1, 0).Encode();
  const std::string golden = Golden("event.tlog-proof", made);
  EXPECT_EQ(golden, made);
  absl::StatusOr<EventProof> proof = EventProof::Decode(golden);
  ASSERT_TRUE(proof.ok()) << proof.status();
  EXPECT_EQ(proof->Encode(), golden);
  absl::StatusOr<ProofFacts> facts = VerifyProof(*proof, log.trust());
  EXPECT_TRUE(facts.ok()) << facts.status();
}

}  // namespace
}  // namespace orgtrail
