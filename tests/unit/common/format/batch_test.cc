#include "common/format/batch.h"

#include <gtest/gtest.h>

#include "common/base/limits.h"
#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

BatchHeader Good() {
  BatchHeader h;
  h.epoch = 1;
  h.batch_seq = 1;
  h.first_seq = 1;
  h.last_seq = 4;
  h.n_events = 3;
  h.n_lost = 1;
  h.cum_events = 3;
  h.cum_lost = 1;
  h.body_bytes = 3 * 52 + 30;
  h.key_slot = 1;
  h.org = "o-example";
  h.account = "111122223333";
  h.region = "eu-west-1";
  h.agent = "web-01";
  return h;
}

std::string CodeOf(const absl::Status& status) {
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  const std::string message(status.message());
  return message.substr(0, message.find(' '));
}

TEST(Batch, HeaderBounds) {
  ASSERT_TRUE(BatchHeader::Decode(Good().Encode()).ok());
  struct Case {
    const char* what;
    void (*change)(BatchHeader&);
  };
  const Case cases[] = {
      {"epoch 0", [](BatchHeader& h) { h.epoch = 0; }},
      {"too many events", [](BatchHeader& h) { h.n_events = 1001, h.cum_events = 1001, h.last_seq = 1002, h.body_bytes = 1 << 20; }},
      {"most events", [](BatchHeader& h) { h.n_events = UINT32_MAX; }},
      {"count", [](BatchHeader& h) { h.n_lost = 0; }},
      {"first 0", [](BatchHeader& h) { h.first_seq = 0, h.n_lost = 2, h.cum_lost = 2; }},
      {"gap", [](BatchHeader& h) { h.first_seq = 6; }},
      {"last overflows", [](BatchHeader& h) { h.last_seq = UINT64_MAX; }},
      {"cum below", [](BatchHeader& h) { h.cum_events = 2; }},
      {"cum lost below", [](BatchHeader& h) { h.cum_lost = 0; }},
      {"cum overflow", [](BatchHeader& h) { h.cum_lost = UINT64_MAX; }},
      {"body bytes", [](BatchHeader& h) { h.body_bytes = 3 * 52 - 1; }},
      {"wall", [](BatchHeader& h) { h.wall_close_ns = uint64_t{1} << 63; }},
      {"boot", [](BatchHeader& h) { h.boot_close_ns = UINT64_MAX; }},
      {"flags", [](BatchHeader& h) { h.flags = 64; }},
      {"retired data", [](BatchHeader& h) { h.flags = kBatchRetired; }},
      {"heartbeat with events", [](BatchHeader& h) { h.kind = BatchKind::kHeartbeat; }},
      {"data without", [](BatchHeader& h) { h.last_seq = 1, h.n_events = 0, h.body_bytes = 0; }},
      {"slot", [](BatchHeader& h) { h.key_slot = 1024; }},
      {"last slot", [](BatchHeader& h) { h.key_slot = 1023; }},
      {"batch 0", [](BatchHeader& h) { h.batch_seq = 0; }},
      {"extension", [](BatchHeader& h) { h.ext_hash = Sha256("x"); }},
      {"org", [](BatchHeader& h) { h.org = "Org"; }},
      {"account", [](BatchHeader& h) { h.account = "11112222333"; }},
      {"region", [](BatchHeader& h) { h.region = ".."; }},
      {"agent", [](BatchHeader& h) { h.agent = std::string(65, 'a'); }},
      {"empty agent", [](BatchHeader& h) { h.agent.clear(); }},
  };
  for (const Case& c : cases) {
    BatchHeader h = Good();
    c.change(h);
    EXPECT_EQ(CodeOf(BatchHeader::Decode(h.Encode()).status()), "BOUNDS") << c.what;
  }
}

TEST(Batch, MagicVersionKindLength) {
  const std::string good = Good().Encode();
  auto code = [&](size_t at, char c) {
    std::string bytes = good;
    bytes[at] = c;
    return CodeOf(BatchHeader::Decode(bytes).status());
  };
  EXPECT_EQ(code(3, '2'), "FRAME_MALFORMED");
  EXPECT_EQ(code(2, 'E'), "FRAME_MALFORMED");
  EXPECT_EQ(code(4, 2), "VERSION_UNKNOWN");
  EXPECT_EQ(code(5, static_cast<char>(200)), "VERSION_UNKNOWN");
  EXPECT_EQ(CodeOf(BatchHeader::Decode(good + "x").status()), "FRAME_MALFORMED");
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_EQ(CodeOf(BatchHeader::Decode(good.substr(0, n)).status()), "FRAME_MALFORMED") << n;
  }
}

TEST(Batch, EntryHasOneOrTwoSignatures) {
  SealedLog log;
  log.Add("{}");
  log.Close();
  for (const SealedBatch& batch : log.batches) {
    const std::string entry(FrameView::Decode(batch.frame)->entry);
    absl::StatusOr<BatchEntry> decoded = BatchEntry::Decode(entry);
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded->identity_signature.size(), decoded->header.TwoSignatures() ? 64u : 0u);
    EXPECT_EQ(std::string(decoded->header_bytes) + std::string(decoded->slot_signature) + std::string(decoded->identity_signature), entry);
    EXPECT_FALSE(BatchEntry::Decode(entry + "x").ok());
    EXPECT_FALSE(BatchEntry::Decode(entry.substr(0, entry.size() - 1)).ok());
    EXPECT_FALSE(BatchEntry::Decode(entry.substr(0, entry.size() - 64)).ok());
    EXPECT_FALSE(BatchEntry::Decode(entry + std::string(64, 'x')).ok());
  }
}

TEST(Epoch, OpeningRoundTripsAndRefuses) {
  SealedLog log;
  const std::string object(FrameView::Decode(log.batches[0].frame)->extension);
  absl::StatusOr<EpochOpening> opening = EpochOpening::Decode(object);
  ASSERT_TRUE(opening.ok()) << opening.status();
  EXPECT_EQ(opening->Encode(), object);
  EXPECT_EQ(opening->keys.size(), limits::kTreeSlots);
  for (size_t n = 0; n < object.size(); n += n < 300 ? 1 : 499) {
    EXPECT_EQ(CodeOf(EpochOpening::Decode(object.substr(0, n)).status()).empty(), false) << n;
  }
  EXPECT_EQ(CodeOf(EpochOpening::Decode(object + "x").status()), "FRAME_MALFORMED");
  struct Case {
    const char* code;
    void (*change)(EpochOpening&);
  };
  const Case cases[] = {
      {"BOUNDS", [](EpochOpening& o) { o.origin.clear(); }},
      {"BOUNDS", [](EpochOpening& o) { o.origin = "two words"; }},
      {"BOUNDS", [](EpochOpening& o) { o.cert_serial = "AB"; }},
      {"BOUNDS", [](EpochOpening& o) { o.cert_serial = std::string(65, 'a'); }},
      {"BOUNDS", [](EpochOpening& o) { o.clock_source = "a\nb"; }},
      {"BOUNDS", [](EpochOpening& o) { o.previous_batch_seq = 1; }},
      {"BOUNDS", [](EpochOpening& o) { o.previous_epoch = 1; }},  // reason is first
      {"BOUNDS", [](EpochOpening& o) { o.keys.pop_back(); }},
      {"BOUNDS", [](EpochOpening& o) { o.keys[9] = PublicKey{}; }},  // small order
      {"VERSION_UNKNOWN", [](EpochOpening& o) { o.reason = static_cast<EpochReason>(6); }},
  };
  for (const Case& c : cases) {
    EpochOpening changed = *opening;
    c.change(changed);
    EXPECT_EQ(CodeOf(EpochOpening::Decode(changed.Encode()).status()), c.code) << &c - cases;
  }
  EpochOpening handover = *opening;
  handover.reason = EpochReason::kHandover;
  handover.previous_epoch = 4;
  handover.last_receipt = log.Note();
  EXPECT_EQ(EpochOpening::Decode(handover.Encode())->last_receipt, log.Note());
  for (int i = 0; i <= 5; ++i) EXPECT_NE(EpochReasonName(static_cast<EpochReason>(i)), "?");
  for (int i = 0; i <= 4; ++i) EXPECT_NE(BatchKindName(static_cast<BatchKind>(i)), "?");
}

TEST(Epoch, KeyListIsExact) {
  SealedLog log;
  const std::vector<PublicKey> keys = EpochOpening::Decode(FrameView::Decode(log.batches[0].frame)->extension)->keys;
  const std::string list = EncodeKeyList(keys);
  EXPECT_EQ(*DecodeKeyList(list), keys);
  EXPECT_EQ(CodeOf(DecodeKeyList(list + "x").status()), "FRAME_MALFORMED");
  EXPECT_EQ(CodeOf(DecodeKeyList(list.substr(0, 100)).status()), "FRAME_MALFORMED");
  EXPECT_EQ(CodeOf(DecodeKeyList("OTK2").status()), "FRAME_MALFORMED");
  EXPECT_EQ(CodeOf(DecodeKeyList(std::string("OTK1\xff\xff\xff\xff", 8)).status()), "BOUNDS");
}

}  // namespace
}  // namespace orgtrail
