#include "common/format/audit.h"

#include <gtest/gtest.h>

#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

struct LogLeaf {
  std::string bytes;
  bool quarantined = false;
};

class AuditTest : public ::testing::Test {
 protected:
  // Leaves 0 enrolment, 1 epoch_open, 2 three records, 3 heartbeat, 4 one record, 5 epoch_close.
  AuditTest() {
    for (const char* body : {"{\"eventName\":\"A\"}", "{\"eventName\":\"B\"}", "{\"eventName\":\"C\"}"}) log_.Add(body);
    log_.Close();
    log_.Close();
    log_.Add("{\"eventName\":\"D\"}");
    log_.Close();
    absl::StatusOr<std::vector<SealedBatch>> last = log_.sealer.CloseEpoch(0, {});
    for (SealedBatch& b : *last) log_.Append(std::move(b));
    leaves_ = Of(log_);
    checkpoint_ = Over(leaves_);
  }
  static std::vector<LogLeaf> Of(const SealedLog& log) {
    std::vector<LogLeaf> out{{log.entries[0]}};
    for (const SealedBatch& b : log.batches) out.push_back({b.frame});
    return out;
  }
  static Checkpoint Over(const std::vector<LogLeaf>& leaves) {
    std::vector<Hash> hashes;
    for (const LogLeaf& l : leaves) {
      hashes.push_back(LeafHash(l.bytes.starts_with("OTF1") ? FrameView::Decode(l.bytes)->entry : std::string_view(l.bytes)));
    }
    return Checkpoint{SealedLog::kOrigin, hashes.size(), RootOf(hashes)};
  }
  static AuditReport Run(const std::vector<LogLeaf>& leaves, const Checkpoint& checkpoint, int threads = 1) {
    Audit audit(threads, checkpoint);
    for (const LogLeaf& l : leaves) audit.Add(l.bytes, l.quarantined);
    return audit.Finish();
  }
  AuditReport Run(const std::vector<LogLeaf>& leaves) const { return Run(leaves, checkpoint_); }
  static std::string Text(const AuditReport& r) {
    std::string out;
    for (const AuditFinding& f : r.findings) {
      out += (f.kind == AuditFinding::Kind::kTampered ? "T" : f.kind == AuditFinding::Kind::kIncomplete ? "I" : "n") + std::to_string(f.leaf) + " " + f.what + "\n";
    }
    return out;
  }
  static bool Says(const AuditReport& r, AuditFinding::Kind kind, uint64_t leaf, std::string_view what = "") {
    return std::any_of(r.findings.begin(), r.findings.end(), [&](const AuditFinding& f) {
      return f.kind == kind && f.leaf == leaf && f.what.find(what) != std::string::npos;
    });
  }
  static bool Tampered(const AuditReport& r, uint64_t leaf, std::string_view what = "") { return Says(r, AuditFinding::Kind::kTampered, leaf, what); }
  std::vector<LogLeaf> Flip(size_t leaf, size_t at) const {
    std::vector<LogLeaf> copy = leaves_;
    copy[leaf].bytes[at] = static_cast<char>(copy[leaf].bytes[at] ^ 0x10);
    return copy;
  }

  SealedLog log_;
  std::vector<LogLeaf> leaves_;
  Checkpoint checkpoint_;
};

TEST_F(AuditTest, AWholeLogIsProven) {
  for (int threads : {0, 1, 4}) {
    const AuditReport r = Run(leaves_, checkpoint_, threads);
    EXPECT_EQ(Text(r), "");
    EXPECT_EQ(r.leaves, 6u);
    EXPECT_EQ(r.batches, 5u);
    EXPECT_EQ(r.events, 4u);
    EXPECT_EQ(r.agents, 1u);
    EXPECT_EQ(r.epochs, 1u);
    EXPECT_EQ(r.unclean_epochs, 0u);
    EXPECT_EQ(r.root, checkpoint_.root);
  }
  EXPECT_EQ(Text(Run({}, Checkpoint{SealedLog::kOrigin, 0, EmptyRoot()})), "");
}

// One bit in any byte: of the header, a signature, the extension's length, the batch key, the number of rows, the bodies.
TEST_F(AuditTest, EveryByteOfABatchCounts) {
  for (size_t at = 0; at < leaves_[2].bytes.size(); ++at) {
    const std::vector<LogLeaf> flipped = Flip(2, at);
    const AuditReport r = Run(flipped);
    if (Tampered(r, 2)) continue;
    // A bit that zstd's frame header leaves unused: every row reads as it was signed.
    ZstdDecompressor zstd;
    const FrameView was = *FrameView::Decode(leaves_[2].bytes), is = *FrameView::Decode(flipped[2].bytes);
    EXPECT_EQ(InflateFrame(is, zstd)->storage.view(), InflateFrame(was, zstd)->storage.view()) << "byte " << at << "\n" << Text(r);
    EXPECT_EQ(was.entry, is.entry) << at;
  }
}

TEST_F(AuditTest, EveryByteOfAnEpochsOpeningCounts) {
  const FrameView view = *FrameView::Decode(leaves_[1].bytes);
  const size_t keys_at = leaves_[1].bytes.size() - 32 - 4 - 1000;   // deep in the list of keys
  ASSERT_GT(view.extension.size(), 32'000u);
  for (size_t at = 0; at < 6 + view.entry.size() + 300; at += 7) EXPECT_TRUE(Tampered(Run(Flip(1, at)), 1)) << "byte " << at;
  const AuditReport r = Run(Flip(1, keys_at));
  EXPECT_TRUE(Tampered(r, 1)) << Text(r);
  EXPECT_TRUE(Tampered(r, 2, "SLOT_UNKNOWN"));    // and nothing that rests on those keys is believed
  EXPECT_EQ(r.root, checkpoint_.root);            // although the tree cannot know
}

TEST_F(AuditTest, EveryByteOfAnEnrolmentCounts) {
  for (size_t at = 0; at < leaves_[0].bytes.size(); at += 3) {
    const AuditReport r = Run(Flip(0, at));
    EXPECT_TRUE(Tampered(r, 6, "root") || Tampered(r, 0)) << "byte " << at << "\n" << Text(r);
  }
  std::vector<LogLeaf> copy = leaves_;
  copy[0].bytes = "XXXX";
  EXPECT_TRUE(Tampered(Run(copy), 0, "bytes of no kind"));
  copy = leaves_;
  copy[5].bytes = std::string(FrameView::Decode(leaves_[5].bytes)->entry);   // hashes the same, shows no records
  const AuditReport r = Run(copy);
  EXPECT_EQ(Text(r), "T5 a batch's entry without its frame: the records are missing\n");
  copy[5].bytes = "OTV1" + copy[5].bytes.substr(4);
  EXPECT_TRUE(Tampered(Run(copy), 5));
}

TEST_F(AuditTest, NamesWhatIsWrong) {
  const FrameView view = *FrameView::Decode(leaves_[2].bytes);
  const size_t entry = 6, ext_len = entry + view.entry.size(), key = ext_len + 4 + view.extension.size(), rows = key + 32, packed = rows + 4;
  const BatchEntry decoded = *BatchEntry::Decode(view.entry);
  EXPECT_TRUE(Tampered(Run(Flip(2, ext_len - 3)), 2, "SIG_INVALID, one-time key"));
  EXPECT_TRUE(Tampered(Run(Flip(2, entry + decoded.header_bytes.size() / 2)), 2, "SIG_INVALID, one-time key"));
  EXPECT_TRUE(Tampered(Run(Flip(2, entry + decoded.header_bytes.size() / 2)), 6, "do not hash to the checkpoint's root"));
  EXPECT_TRUE(Tampered(Run(Flip(2, key)), 2, "bodies"));
  EXPECT_TRUE(Tampered(Run(Flip(2, packed + 12)), 2, "bodies"));
  const FrameView open = *FrameView::Decode(leaves_[1].bytes);
  EXPECT_TRUE(Tampered(Run(Flip(1, 6 + open.entry.size() - 3)), 1, "SIG_INVALID, identity key"));
}

TEST_F(AuditTest, ABodyForAnother) {  // the whole compressed part of another batch: inflates, and is not what was signed
  std::vector<LogLeaf> copy = leaves_;
  const FrameView a = *FrameView::Decode(leaves_[2].bytes), b = *FrameView::Decode(leaves_[4].bytes);
  const size_t head = leaves_[2].bytes.size() - a.packed.size() - 4 - 32;
  copy[2].bytes = leaves_[2].bytes.substr(0, head) + leaves_[4].bytes.substr(leaves_[4].bytes.size() - b.packed.size() - 4 - 32);
  const AuditReport r = Run(copy);
  EXPECT_TRUE(Tampered(r, 2, "bodies")) << Text(r);
  EXPECT_EQ(r.root, checkpoint_.root);
}

TEST_F(AuditTest, ABatchWithoutItsBodiesIsIncompleteNotTampered) {
  std::vector<LogLeaf> copy = leaves_;
  const FrameView view = *FrameView::Decode(leaves_[2].bytes);
  copy[2].bytes = BodilessFrame(view.entry, view.extension, TombstoneReason::kCorrupt);
  const AuditReport r = Run(copy);
  EXPECT_EQ(r.root, checkpoint_.root);
  EXPECT_EQ(r.bodies_missing, BatchEntry::Decode(view.entry)->header.n_events);
  EXPECT_EQ(r.findings.size(), 1u) << Text(r);
  EXPECT_TRUE(Says(r, AuditFinding::Kind::kIncomplete, 2, "are gone (corrupt)")) << Text(r);
  const FrameView open = *FrameView::Decode(leaves_[1].bytes);
  copy[1].bytes = BodilessFrame(open.entry, open.extension, TombstoneReason::kCorrupt);
  EXPECT_TRUE(Tampered(Run(copy), 1, "of a batch that has none"));
}

TEST_F(AuditTest, OrderDroppingAndDoubling) {
  std::vector<LogLeaf> swapped = leaves_, dropped = leaves_, doubled = leaves_, gone = leaves_;
  std::swap(swapped[2], swapped[3]);
  AuditReport r = Run(swapped);
  EXPECT_TRUE(Tampered(r, 2, "chain: CHAIN_EXPECT")) << Text(r);
  EXPECT_TRUE(Tampered(r, 6, "root"));
  dropped.erase(dropped.begin() + 3);
  r = Run(dropped);
  EXPECT_TRUE(Tampered(r, 3, "chain")) << Text(r);
  EXPECT_TRUE(Says(r, AuditFinding::Kind::kIncomplete, 5)) << Text(r);
  doubled.insert(doubled.begin() + 3, doubled[2]);
  r = Run(doubled);
  EXPECT_TRUE(Tampered(r, 3, "chain")) << Text(r);
  EXPECT_TRUE(Tampered(r, 6, "root"));
  gone.pop_back();   // off the end: whole as far as it goes, and not all
  r = Run(gone);
  EXPECT_EQ(Text(r), "I5 the checkpoint covers 6 leaves, only 5 are here\n");
}

TEST_F(AuditTest, ALogRewrittenWholeStillBreaksTheChain) {   // the operator signs a new root over what is left
  std::vector<LogLeaf> dropped = leaves_;
  dropped.erase(dropped.begin() + 2);
  const AuditReport r = Run(dropped, Over(dropped));
  EXPECT_TRUE(Tampered(r, 2, "chain")) << Text(r);
  EXPECT_EQ(r.root, Over(dropped).root);
}

TEST_F(AuditTest, TheCheckpoint) {
  Checkpoint wrong = checkpoint_;
  wrong.root.bytes[0] ^= 1;
  EXPECT_EQ(Text(Run(leaves_, wrong)), "T6 the leaves do not hash to the checkpoint's root " + Base64(wrong.root.view()) + "\n");
  std::vector<LogLeaf> first(leaves_.begin(), leaves_.begin() + 3);
  EXPECT_EQ(Text(Run(leaves_, Over(first))), "");      // leaves beyond it are audited as well
  std::vector<LogLeaf> broken = Flip(4, 40);
  EXPECT_TRUE(Tampered(Run(broken, Over(first)), 4));
  EXPECT_TRUE(Tampered(Run({}, Checkpoint{SealedLog::kOrigin, 0, wrong.root}), 0));
}

TEST_F(AuditTest, ABatchNeedsAnEnrolmentBeforeIt) {
  std::vector<LogLeaf> late(leaves_.begin() + 1, leaves_.end());
  late.push_back(leaves_[0]);
  AuditReport r = Run(late, Over(late));
  EXPECT_TRUE(Tampered(r, 0, "no enrolment")) << Text(r);
  EXPECT_EQ(r.agents, 1u);
}

TEST_F(AuditTest, AnEnrolmentHoldsForOneKeyAndOneName) {
  IdentityLeaf other = *IdentityLeaf::Decode(leaves_[0].bytes);
  std::vector<LogLeaf> renamed = leaves_, twice = leaves_, again = leaves_;
  other.uri = "spiffe://o-example/account/111122223333/region/eu-west-1/agent/web-02";
  renamed[0].bytes = other.Encode();
  EXPECT_TRUE(Tampered(Run(renamed, Over(renamed)), 2, "signs as"));
  again.insert(again.begin() + 1, leaves_[0]);
  EXPECT_EQ(Text(Run(again, Over(again))), "");
  other = *IdentityLeaf::Decode(leaves_[0].bytes);
  RepeatingRng rng("thief");
  other.identity_key = std::string(View(SigningKey::Generate(rng).public_key()));
  twice.insert(twice.begin() + 1, {other.Encode()});
  const AuditReport r = Run(twice, Over(twice));
  EXPECT_EQ(Text(r), "T1 uuid " + log_.uuid.ToString() + " is enrolled again with another identity key\n");
}

TEST_F(AuditTest, ABranchInQuarantineIsSignedLikeAnyOther) {
  Sealer copy({log_.uuid, "o-example", "111122223333", "eu-west-1", "web-01"}, log_.identity, log_.clock, log_.rng);  // a restored host
  EpochOpening opening;
  opening.origin = SealedLog::kOrigin;
  opening.clock_source = "ntp";
  opening.cert_serial = "0a1b2c";
  std::vector<LogLeaf> leaves = leaves_;
  leaves.push_back({copy.OpenEpoch(1, opening, {})->frame, true});
  copy.Add(EventClass::kManagement, 0, "{}");
  leaves.push_back({copy.Close(0, {})->front().frame, true});
  AuditReport r = Run(leaves, Over(leaves));
  EXPECT_EQ(r.findings.size(), 2u) << Text(r);
  for (size_t leaf : {6u, 7u}) EXPECT_TRUE(Says(r, AuditFinding::Kind::kNote, leaf, "quarantine")) << Text(r);
  EXPECT_EQ(r.epochs, 1u);
  for (LogLeaf& l : leaves) l.quarantined = false;
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), 6, "chain"));
  leaves[6].quarantined = leaves[7].quarantined = true;
  leaves[7].bytes[60] = static_cast<char>(leaves[7].bytes[60] ^ 1);
  r = Run(leaves, Over(leaves));
  EXPECT_TRUE(Tampered(r, 7)) << Text(r);
}

TEST_F(AuditTest, ATreeThatRollsAndEpochsThatFollow) {
  SealedLog log("rolls");
  for (int i = 0; i < 1030; ++i) {
    log.Add("{}");
    log.Close();
  }
  EpochOpening next;
  next.reason = EpochReason::kUnclean;
  next.origin = SealedLog::kOrigin;
  next.clock_source = "ntp";
  next.cert_serial = "0a1b2c";
  next.previous_epoch = 1;
  next.previous_batch_seq = log.batches.back().header.batch_seq;
  next.previous_leaf = log.batches.back().leaf;
  next.previous_last_seq = log.batches.back().header.last_seq;
  Sealer second({log.uuid, "o-example", "111122223333", "eu-west-1", "web-01"}, log.identity, log.clock, log.rng);
  log.Append(*second.OpenEpoch(2, next, {}));
  second.Lose(5);
  second.Add(EventClass::kLoss, 0, "{}");
  log.Append(std::move(second.Close(0, {})->front()));
  std::vector<LogLeaf> leaves = Of(log);
  const AuditReport r = Run(leaves, Over(leaves), 2);
  EXPECT_EQ(r.findings.size(), 2u) << Text(r);
  EXPECT_TRUE(Says(r, AuditFinding::Kind::kNote, leaves.size() - 2, "unclean"));
  EXPECT_TRUE(Says(r, AuditFinding::Kind::kNote, leaves.size() - 1, "5 events lost"));
  EXPECT_EQ(r.events, 1031u);
  EXPECT_EQ(r.lost, 5u);
  EXPECT_EQ(r.epochs, 2u);
  EXPECT_EQ(r.unclean_epochs, 1u);
  const size_t roll = 1024;   // open, then 1,022 batches, then the roll
  ASSERT_EQ(FrameView::Decode(leaves[roll].bytes)->extension.size() > 30'000, true);
  leaves[roll].bytes[leaves[roll].bytes.size() - 500] ^= 1;
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), roll));
}

TEST_F(AuditTest, FindingsAreBounded) {
  std::vector<LogLeaf> leaves(1500, LogLeaf{"nonsense", false});
  const AuditReport r = Run(leaves, checkpoint_);
  EXPECT_EQ(r.findings.size(), 1000u);
  EXPECT_EQ(r.more, 501u);
  EXPECT_EQ(r.leaves, 1500u);
}

}  // namespace
}  // namespace orgtrail
