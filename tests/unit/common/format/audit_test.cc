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
    Audit audit(threads, checkpoint, Again(leaves));
    for (const LogLeaf& l : leaves) audit.Add(l.bytes, l.quarantined);
    return audit.Finish();
  }
  static RereadLog Again(const std::vector<LogLeaf>& leaves) {
    return [&leaves](uint64_t to, const std::function<bool(std::string_view)>& take) {
      for (uint64_t i = 0; i < to && take(leaves[i].bytes);) ++i;
      return absl::OkStatus();
    };
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

// A host restored from a snapshot: it signs epoch 1 again, with keys of its own.
class QuarantineTest : public AuditTest {
 protected:
  QuarantineTest() : copy_({log_.uuid, "o-example", "111122223333", "eu-west-1", "web-01"}, log_.identity, log_.clock, log_.rng) {
    opening_.origin = SealedLog::kOrigin;
    opening_.clock_source = "ntp";
    opening_.cert_serial = "0a1b2c";
    opened_ = copy_.OpenEpoch(1, opening_, {})->frame;
    copy_.Add(EventClass::kManagement, 0, "{}");
    second_ = copy_.Close(0, {})->front().frame;
  }
  static LogLeaf Evidence(std::string object, std::string code = "EPOCH_CONFLICT") {
    EvidenceLeaf e;
    e.code = std::move(code);
    e.wall_ns = 1;
    e.uri = "spiffe://o-example/account/111122223333/region/eu-west-1/agent/web-01";
    e.object = std::move(object);
    return {e.Encode()};
  }
  static std::string EntryOfFrame(std::string_view frame) { return std::string(FrameView::Decode(frame)->entry); }
  std::vector<LogLeaf> With(std::vector<LogLeaf> more) const {
    std::vector<LogLeaf> out = leaves_;
    for (LogLeaf& l : more) out.push_back(std::move(l));
    return out;
  }

  Sealer copy_;
  EpochOpening opening_;
  std::string opened_, second_;
};

TEST_F(QuarantineTest, ABranchSetApartIsSignedLikeAnyOther) {
  std::vector<LogLeaf> leaves = With({Evidence(opened_), {opened_, true}, {second_, true}});
  AuditReport r = Run(leaves, Over(leaves));
  EXPECT_EQ(Text(r), "n7 111122223333/eu-west-1/web-01: 2 batches from leaf 7 to 8 set apart in quarantine; leaf 6 is the evidence: EPOCH_CONFLICT\n");
  EXPECT_EQ(r.epochs, 1u);
  EXPECT_EQ(r.quarantined, 2u);
  for (LogLeaf& l : leaves) l.quarantined = false;
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), 7, "chain"));
  leaves[7].quarantined = leaves[8].quarantined = true;
  leaves[8].bytes[60] = static_cast<char>(leaves[8].bytes[60] ^ 1);
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), 8));
}

// The ledger noticed by itself that a place is taken: the log holds both, and that is evidence enough.
TEST_F(QuarantineTest, ABatchThatContradictsTheLogStandsForItself) {
  const std::vector<LogLeaf> leaves = With({{opened_, true}});
  EXPECT_EQ(Text(Run(leaves, Over(leaves))),
            "n6 111122223333/eu-west-1/web-01: 1 batch from leaf 6 set apart in quarantine; leaf 6 itself contradicts what was logged before it\n");
}

// Whoever writes the ledger's files sets the mark: on the last batch, on the last two, or on all of an agent.
TEST_F(QuarantineTest, AMarkWithoutEvidenceIsTampering) {
  for (size_t from : {1u, 2u, 4u, 5u}) {
    std::vector<LogLeaf> leaves = leaves_;
    for (size_t i = from; i < leaves.size(); ++i) leaves[i].quarantined = true;
    const AuditReport r = Run(leaves, Over(leaves));
    EXPECT_TRUE(Tampered(r, from, "no evidence leaf")) << from << "\n" << Text(r);
  }
}

// … and writes something that looks like evidence before it.
TEST_F(QuarantineTest, WhatIsNoEvidence) {
  const std::string logged = leaves_[4].bytes;
  std::string forged = EntryOfFrame(second_);
  forged.back() = static_cast<char>(forged.back() ^ 1);
  SealedLog other("somebody else");
  const struct {
    const char* name;
    LogLeaf evidence;
    const char* why;
  } rows[] = {
      {"of a code that sets nothing apart", Evidence(opened_, "SIG_INVALID"), "no evidence leaf"},
      {"of another agent", Evidence(other.batches[0].frame), "no evidence leaf"},
      {"no batch at all", Evidence("nothing"), "no evidence leaf"},
      {"a batch that is logged", Evidence(EntryOfFrame(logged), "EQUIVOCATION"), "logged as it is"},
      {"the next batch of the chain", Evidence(EntryOfFrame(leaves_[5].bytes), "MONO_ROLLBACK"), "does not contradict"},
      {"a signature that does not match", Evidence(forged, "EQUIVOCATION"), "no key tree"},
      {"an opening without its object", Evidence(EntryOfFrame(opened_)), "without its opening object"},
  };
  for (const auto& row : rows) {
    std::vector<LogLeaf> leaves = leaves_;
    leaves.insert(leaves.begin() + 5, row.evidence);
    leaves.back().quarantined = true;
    const AuditReport r = Run(leaves, Over(leaves));
    EXPECT_TRUE(Tampered(r, 6, row.why)) << row.name << "\n" << Text(r);
  }
}

// Evidence counts for what follows it at once. A chain that went on after it needs new evidence to be set apart.
TEST_F(QuarantineTest, EvidenceIsUsedUpWhenTheChainGoesOn) {
  std::vector<LogLeaf> leaves = leaves_;
  leaves.insert(leaves.begin() + 4, Evidence(opened_));
  leaves.back().quarantined = true;   // 4 evidence, 5 a batch of the chain, 6 set apart
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), 6, "no evidence leaf"));
}

TEST_F(QuarantineTest, KeysOfATreeLongRolledAwayAreFoundInTheLog) {
  SealedLog log("past"), twin("past");   // the same keys, until their records differ
  for (int i = 0; i < 7; ++i) {
    log.Add("{}");
    log.Close();
    twin.Add(i < 6 ? "{}" : "{\"other\":1}");
    twin.Close();
  }
  twin.Close();
  const size_t same = twin.batches.size() - 2;
  ASSERT_EQ(twin.batches[same - 1].frame, log.batches[same - 1].frame);
  ASSERT_NE(twin.batches[same].frame, log.batches[same].frame);
  for (int i = 0; i < 2100; ++i) log.Close();
  std::vector<LogLeaf> leaves = Of(log);
  leaves.push_back(Evidence(EntryOfFrame(twin.batches[same].frame), "EQUIVOCATION"));
  leaves.push_back({twin.batches[same + 1].frame, true});
  EXPECT_TRUE(Says(Run(leaves, Over(leaves)), AuditFinding::Kind::kNote, leaves.size() - 1, "evidence: EQUIVOCATION")) << Text(Run(leaves, Over(leaves)));
  // The batch that is logged there is no evidence, however old.
  leaves[leaves.size() - 2] = Evidence(EntryOfFrame(log.batches[same].frame), "EQUIVOCATION");
  leaves.back() = {log.batches[same + 1].frame, true};
  EXPECT_TRUE(Tampered(Run(leaves, Over(leaves)), leaves.size() - 1, "logged as it is"));
}

TEST_F(QuarantineTest, TheSecondReadingMustBeTheSameLog) {
  std::vector<LogLeaf> leaves = With({Evidence(opened_), {opened_, true}});
  const Checkpoint checkpoint = Over(leaves);
  const auto run = [&](const RereadLog& reread) {
    Audit audit(1, checkpoint, reread);
    for (const LogLeaf& l : leaves) audit.Add(l.bytes, l.quarantined);
    return audit.Finish();
  };
  std::vector<LogLeaf> other = leaves;
  std::swap(other[2], other[3]);
  EXPECT_TRUE(Tampered(run(Again(other)), 0, "not the one read before"));
  EXPECT_TRUE(Says(run(nullptr), AuditFinding::Kind::kIncomplete, 0, "cannot be read again"));
  EXPECT_TRUE(Says(run([](uint64_t, const auto&) { return absl::UnavailableError("gone"); }), AuditFinding::Kind::kIncomplete, 0, "gone"));
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

TEST_F(AuditTest, ALossIsExplainedByTheNextBatchAtTheLatest) {           // 39
  struct Case {
    const char* what;
    std::vector<std::pair<uint32_t, bool>> batches;   // lost before it; whether a loss record is in it
    bool closed;
    uint64_t unexplained;
  };
  const std::vector<Case> table = {
      {"in its own batch", {{5, true}, {0, false}}, true, 0},
      {"in the next", {{5, false}, {0, true}}, true, 0},
      {"two batches later", {{5, false}, {0, false}, {0, true}}, true, 5},
      {"never", {{5, false}, {2, false}, {0, false}}, true, 7},
      {"one of two", {{5, false}, {2, true}, {3, false}, {0, false}}, true, 3},
      {"may still come", {{5, false}}, false, 0},
      {"nothing comes any more", {{5, false}}, true, 5},
  };
  for (const Case& c : table) {
    SCOPED_TRACE(c.what);
    SealedLog log("losses");
    for (const auto& [lost, explains] : c.batches) {
      if (lost > 0) log.sealer.Lose(lost);
      log.sealer.Add(explains ? EventClass::kLoss : EventClass::kManagement, 0, "{}");
      log.Close();
    }
    if (c.closed) {
      absl::StatusOr<std::vector<SealedBatch>> last = log.sealer.CloseEpoch(0, {});
      for (SealedBatch& b : *last) log.Append(std::move(b));
    }
    const std::vector<LogLeaf> leaves = Of(log);
    const AuditReport r = Run(leaves, Over(leaves));
    EXPECT_EQ(r.unexplained, c.unexplained) << Text(r);
    EXPECT_EQ(Text(r).find("no loss record says why") != std::string::npos, c.unexplained > 0);
  }
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
