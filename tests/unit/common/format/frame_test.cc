#include "common/format/frame.h"

#include <gtest/gtest.h>

#include "common/base/bytes.h"
#include "tests/support/sealed_log.h"

namespace orgtrail {
namespace {

// All that makes a frame authentic; the rows when it is.
absl::StatusOr<std::vector<std::string>> Read(std::string_view frame, const PublicKey& slot_key, const PublicKey& identity) {
  ASSIGN_OR_RETURN(FrameView view, FrameView::Decode(frame));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(view.entry));
  RETURN_IF_ERROR(CheckExtension(entry.header, view.extension, nullptr, nullptr));
  ZstdDecompressor zstd;
  ASSIGN_OR_RETURN(Events events, InflateFrame(view, zstd));
  RETURN_IF_ERROR(CheckRows(entry.header, events.rows, HashRows(view.batch_key, events.rows)));
  RETURN_IF_ERROR(VerifySignature(slot_key, kBatchLabel, entry.header_bytes, entry.slot_signature));
  if (entry.header.TwoSignatures()) {
    RETURN_IF_ERROR(VerifySignature(identity, kEpochLabel, entry.header_bytes, entry.identity_signature));
  }
  std::vector<std::string> rows;
  for (const Row& row : events.rows) {
    rows.push_back(absl::StrCat(row.seq, " ", row.wall_ns, " ", row.boot_ns, " ", row.event_class, " ", row.flags, " ", ToAbsl(row.body)));
  }
  return rows;
}

std::string Plain(const FrameView& view) {
  std::string plain;
  ZstdDecompressor zstd;
  EXPECT_TRUE(zstd.Decompress(view.packed, limits::kFrameRawBytes, &plain).ok());
  return plain;
}

// A frame with `packed` made of these bytes.
std::string Repack(const FrameView& view, uint32_t n_rows, std::string_view plain) {
  std::string frame = "OTF1";
  PutU16(frame, static_cast<uint16_t>(view.entry.size()));
  frame += view.entry;
  PutU32(frame, 0);
  frame += view.batch_key;
  PutU32(frame, n_rows);
  ZstdCompressor(1).Compress(plain, &frame);
  return frame;
}

struct FrameTest : testing::Test {
  FrameTest() {
    for (int i = 0; i < 7; ++i) log.Add("{\"eventName\":\"CreateUser\",\"n\":" + std::to_string(i) + "}");
    log.Close();
    log.Close();
    keys = EpochOpening::Decode(FrameView::Decode(log.batches[0].frame)->extension)->keys;
  }
  SealedLog log;
  std::vector<PublicKey> keys;
};

TEST_F(FrameTest, EveryFlippedByteIsFoundOrChangesNothing) {
  for (size_t position : {0u, 1u, 2u}) {
    const std::string& frame = log.batches[position].frame;
    absl::StatusOr<std::vector<std::string>> rows = Read(frame, keys[position], log.identity.public_key());
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->size(), position == 1 ? 7u : 0u);
    const size_t packed = frame.size() - FrameView::Decode(frame)->packed.size();
    const size_t stride = frame.size() > 10'000 ? 97 : 1;  // the key list is 32 KiB under one hash
    for (size_t i = 0; i < frame.size(); i += i < 1000 ? 1 : stride) {
      std::string damaged = frame;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      absl::StatusOr<std::vector<std::string>> read = Read(damaged, keys[position], log.identity.public_key());
      if (read.ok()) {
        // zstd has more than one way to say the same content; the content is what is signed.
        EXPECT_GE(i, packed) << "byte " << i;
        EXPECT_EQ(*read, *rows);
      } else {
        EXPECT_TRUE(absl::IsInvalidArgument(read.status()) || absl::IsDataLoss(read.status()) || absl::IsResourceExhausted(read.status()))
            << read.status();
      }
    }
    for (size_t n = 0; n < frame.size(); n += n < 700 ? 1 : 499) {
      EXPECT_FALSE(Read(frame.substr(0, n), keys[position], log.identity.public_key()).ok()) << n;
    }
    EXPECT_FALSE(Read(frame + "x", keys[position], log.identity.public_key()).ok());
  }
}

TEST_F(FrameTest, RowsMustFillTheContentExactly) {
  const FrameView view = *FrameView::Decode(log.batches[1].frame);
  const std::string plain = Plain(view);
  ZstdDecompressor zstd;
  auto code = [&](uint32_t n, std::string_view bytes) {
    const std::string frame = Repack(view, n, bytes);
    absl::StatusOr<FrameView> again = FrameView::Decode(frame);
    if (!again.ok()) return std::string(again.status().message()).substr(0, 14);
    absl::StatusOr<Events> events = InflateFrame(*again, zstd);
    return events.ok() ? std::string("ok") : std::string(events.status().message()).substr(0, 14);
  };
  EXPECT_EQ(code(7, plain), "ok");
  EXPECT_EQ(code(7, plain + "x"), "COUNT_MISMATCH");
  EXPECT_EQ(code(7, plain.substr(0, plain.size() - 1)), "COUNT_MISMATCH");
  EXPECT_EQ(code(8, plain), "COUNT_MISMATCH");
  EXPECT_EQ(code(6, plain), "COUNT_MISMATCH");
  EXPECT_EQ(code(1000, plain), "COUNT_MISMATCH");
  EXPECT_EQ(code(1001, plain), "FRAME_MALFORME");
  EXPECT_EQ(code(0, plain), "FRAME_MALFORME");
  EXPECT_EQ(code(7, std::string(limits::kFrameRawBytes + 1, '\0')), "DECOMP_LIMIT z");
}

TEST_F(FrameTest, TombstonesKeepTheRoot) {
  const FrameView view = *FrameView::Decode(log.batches[1].frame);
  ZstdDecompressor inflate;
  Events events = *InflateFrame(view, inflate);
  HashRows(view.batch_key, events.rows);
  ZstdCompressor deflate(1);
  FramePacker packer;
  for (const Row& row : events.rows) {
    if (row.seq == 3) {
      packer.AddTombstone(row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body_len, row.leaf, TombstoneReason::kCorrupt);
    } else {
      packer.Add(row.flags, row.event_class, row.seq, row.wall_ns, row.boot_ns, row.body);
    }
  }
  EXPECT_EQ(packer.rows(), 7u);
  const std::string frame = packer.Finish(view.entry, view.extension, view.batch_key, deflate);
  EXPECT_EQ(packer.rows(), 0u);
  EXPECT_EQ(packer.body_bytes(), 0u);
  const FrameView again = *FrameView::Decode(frame);
  absl::StatusOr<Events> repaired = InflateFrame(again, inflate);
  ASSERT_TRUE(repaired.ok()) << repaired.status();
  EXPECT_TRUE(repaired->rows[2].tombstone);
  EXPECT_TRUE(repaired->rows[2].body.empty());
  EXPECT_EQ(repaired->rows[2].reason, TombstoneReason::kCorrupt);
  const BatchHeader header = BatchEntry::Decode(again.entry)->header;
  EXPECT_TRUE(CheckRows(header, repaired->rows, HashRows(again.batch_key, repaired->rows)).ok());

  std::string plain = Plain(again);
  const size_t reason = plain.find(ToStd(absl::string_view(repaired->rows[2].leaf.bytes.data(), 32))) + 32;
  for (char bad : {'\0', '\4', '\xff'}) {
    plain[reason] = bad;
    const std::string damaged = Repack(again, 7, plain);
    EXPECT_TRUE(absl::IsInvalidArgument(InflateFrame(*FrameView::Decode(damaged), inflate).status()));
  }
}

TEST_F(FrameTest, WithoutBodiesItKeepsWhatWasSigned) {
  const FrameView whole = *FrameView::Decode(log.batches[1].frame);
  const std::string frame = BodilessFrame(whole.entry, whole.extension, TombstoneReason::kCorrupt);
  EXPECT_EQ(frame.size(), 4 + 2 + whole.entry.size() + 4 + 32 + 4 + 1);
  const absl::StatusOr<FrameView> view = FrameView::Decode(frame);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->entry, whole.entry);
  EXPECT_EQ(view->bodies_gone, TombstoneReason::kCorrupt);
  EXPECT_EQ(view->n_rows, 0u);
  ZstdDecompressor inflate;
  const absl::Status inflated = InflateFrame(*view, inflate).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(inflated)) << inflated;   // never an empty batch by mistake
  EXPECT_EQ(inflated.message().substr(0, 14), "BODIES_MISSING");

  const BatchHeader header = BatchEntry::Decode(view->entry)->header;
  const Events gone = GoneEvents(header, *view->bodies_gone);
  ASSERT_EQ(gone.rows.size(), 7u);
  EXPECT_EQ(gone.rows[6].seq, 7u);
  EXPECT_TRUE(gone.rows[6].tombstone);
  BatchHeader lossy = header;
  lossy.n_lost = 2;
  EXPECT_EQ(GoneEvents(lossy, TombstoneReason::kCorrupt).rows[0].seq, 0u);   // which two, nobody knows

  for (const char bad : {'\0', '\4', '\xff'}) {
    std::string damaged = frame;
    damaged.back() = bad;
    EXPECT_TRUE(absl::IsInvalidArgument(FrameView::Decode(damaged).status()));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(FrameView::Decode(frame.substr(0, frame.size() - 1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(FrameView::Decode(frame + "x").status()));
  std::string keyed = frame;
  keyed[frame.size() - 10] = 'k';
  EXPECT_TRUE(absl::IsInvalidArgument(FrameView::Decode(keyed).status()));
}

TEST_F(FrameTest, ExtremeNumbersSurvive) {
  FramePacker packer;
  packer.Add(0x7FFF, 0xFFFF, UINT64_MAX, 0, UINT64_MAX, "a");
  packer.Add(0, 0, 1, UINT64_MAX, 5, std::string("\0b", 2));
  packer.Add(1, 2, 0, 0, 0, "");
  ZstdCompressor deflate(1);
  ZstdDecompressor inflate;
  const std::string frame = packer.Finish("entry", "extension", std::string(32, 'k'), deflate);
  const FrameView view = *FrameView::Decode(frame);
  EXPECT_EQ(view.entry, "entry");
  EXPECT_EQ(view.extension, "extension");
  Events events = *InflateFrame(view, inflate);
  Events moved = std::move(events);  // views follow
  ASSERT_EQ(moved.rows.size(), 3u);
  EXPECT_EQ(moved.rows[0].seq, UINT64_MAX);
  EXPECT_EQ(moved.rows[0].boot_ns, UINT64_MAX);
  EXPECT_EQ(moved.rows[1].wall_ns, UINT64_MAX);
  EXPECT_EQ(moved.rows[1].boot_ns, 5u);
  EXPECT_EQ(moved.rows[1].body, std::string_view("\0b", 2));
  EXPECT_EQ(moved.rows[2].seq, 0u);
  EXPECT_EQ(moved.rows[0].flags, 0x7FFF);
}

}  // namespace
}  // namespace orgtrail
