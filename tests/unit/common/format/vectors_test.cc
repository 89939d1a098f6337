// The protocol's published vectors, made again from the same inputs: seeds are SHA-256 of "slot0" … and "log".
#include <gtest/gtest.h>

#include "common/base/text.h"
#include "common/crypto/cipher.h"
#include "common/format/batch.h"
#include "common/format/epoch.h"
#include "common/format/event.h"
#include "common/format/note.h"
#include "common/merkle/tree.h"

namespace orgtrail {
namespace {

constexpr uint64_t kWall = 1763712000'000'000'000, kBoot = 5000'000'000'000;

Hash Filled(char c) { return Hash::From(std::string(32, c)); }

struct Vectors : testing::Test {
  Vectors() {
    SaltCipher salts(std::string(32, '\7'));
    for (uint64_t i = 0; i < 3; ++i) {
      const std::string body = "{\"eventName\":\"CreateUser\",\"n\":" + std::to_string(i) + "}";
      EventPrefix prefix;
      salts.Salt(i + 1, prefix.salt);
      prefix.seq = i + 1;
      prefix.wall_ns = kWall + i;
      prefix.boot_ns = kBoot + i;
      prefix.event_class = 1;
      prefix.body_len = static_cast<uint32_t>(body.size());
      leaves.push_back(EventLeaf(prefix, body));
      body_bytes += kEventPrefixBytes + body.size();
      char bytes[kEventPrefixBytes];
      prefix.Encode(bytes);
      EXPECT_EQ(LeafHash(std::string_view(bytes, sizeof bytes), body), leaves.back());
    }
    for (int i = 0; i < 4; ++i) seeds.push_back(std::string(Sha256("slot" + std::to_string(i)).view()));
    for (const std::string& seed : seeds) keys.push_back(SigningKey::FromSeed(seed).public_key());
  }

  BatchHeader Header() const {
    BatchHeader h;
    for (size_t i = 0; i < 16; ++i) h.agent_uuid.bytes[i] = static_cast<char>(i);
    h.epoch = 9;
    h.batch_seq = 1;
    h.first_seq = 1;
    h.last_seq = 3;
    h.n_events = 3;
    h.cum_events = 3;
    h.body_bytes = body_bytes;
    h.wall_close_ns = kWall + 1'000'000'000;
    h.boot_close_ns = kBoot + 1'000'000'000;
    h.boot_id.fill('\xAA');
    h.events_root = RootOf(leaves);
    h.prev_hash = Filled('\xDD');
    h.policy_version = 42;
    h.policy_hash = Filled('\xBB');
    h.seen_size = 20852163;
    h.seen_root = Filled('\xCC');
    h.key_slot = 1;
    h.keytree_root = KeyTreeRoot(keys);
    h.org = "o-example";
    h.account = "111122223333";
    h.region = "eu-west-1";
    h.agent = "web-01";
    return h;
  }

  std::string Entry(const BatchHeader& h) const {
    const std::string bytes = h.Encode();
    return bytes + std::string(View(SigningKey::FromSeed(seeds[h.key_slot]).Sign(kBatchLabel, bytes)));
  }

  std::vector<Hash> leaves;
  uint64_t body_bytes = 0;
  std::vector<std::string> seeds;
  std::vector<PublicKey> keys;
};

TEST_F(Vectors, EventsAndKeys) {
  EXPECT_EQ(Hex(leaves[0].view()), "f709042b2608bef11f97421f314ce63b692cddc720c91bdf2d094d6adbfeaeaf");
  EXPECT_EQ(Hex(RootOf(leaves).view()), "acbd4cfab379b42c14b7d93e8e2c7acb7bb9ccc1b85725ad9658c2ecbf6b2558");
  EXPECT_EQ(Hex(KeyTreeRoot(keys).view()), "4efb0eefd9481fcd3920b1d4041ec94ff9b466faa34f32931dc1a58ff6e7987f");
  EXPECT_EQ(Hex(View(keys[1])), "d42abbad35c1d9856c2b1715c661159c9b0fb143bff5e14ae5f9182b6db9dac4");
}

TEST_F(Vectors, BatchHeartbeatAndCheckpoint) {
  const BatchHeader header = Header();
  const std::string entry = Entry(header);
  ASSERT_EQ(header.Encode().size(), 404u);
  EXPECT_EQ(Hex(entry.substr(404)),
            "0845c35af132ebea12d2ce79740b9973dc7633ecccf3220ba53323b3d1da73ec34668625c4017052f3d90c5358b5836915ff432412fa026ae0766349"
            "46bd8301");
  const Hash leaf = LeafHash(entry);
  EXPECT_EQ(Hex(leaf.view()), "901661aa78f50aa4775b3bd1e6fa3ec49e1bf55382223342450262fba6cf6697");

  BatchHeader beat = header;
  beat.kind = BatchKind::kHeartbeat;
  beat.batch_seq = 2;
  beat.first_seq = 4;
  beat.n_events = 0;
  beat.body_bytes = 0;
  beat.events_root = EmptyRoot();
  beat.prev_hash = leaf;
  beat.key_slot = 2;
  const Hash beat_leaf = LeafHash(Entry(beat));
  EXPECT_EQ(Hex(beat_leaf.view()), "54c945a69db8393f4a7e722f8c94aa1a3e77f9fb63d58aa71a8279daa12a4c1f");

  for (const BatchHeader& h : {header, beat}) {
    const std::string encoded = Entry(h);
    absl::StatusOr<BatchEntry> decoded = BatchEntry::Decode(encoded);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->header.Encode(), decoded->header_bytes);
    EXPECT_TRUE(VerifySignature(keys[h.key_slot], kBatchLabel, decoded->header_bytes, decoded->slot_signature).ok());
  }

  const SigningKey log = SigningKey::FromSeed(Sha256("log").view());
  NoteKey vkey;
  vkey.name = "orgtrail.example/o-example";
  vkey.key = log.public_key();
  EXPECT_EQ(vkey.Encode(), "orgtrail.example/o-example+255e1157+AZsfhHkc/HZjBFhU04netcqVRJ2HXydqg4QLBgqznPxx");
  Checkpoint checkpoint;
  checkpoint.origin = vkey.name;
  checkpoint.size = 2;
  checkpoint.root = RootOf(std::vector<Hash>{leaf, beat_leaf});
  const std::string note = SignNote(checkpoint.Text(), vkey.name, log);
  EXPECT_EQ(note,
            "orgtrail.example/o-example\n2\n61f4AAXYBGlLFi2NU/Ihikqo/sY+VAStspIOVOfjPZA=\n\n"
            "\xE2\x80\x94 orgtrail.example/o-example "
            "JV4RV11TmcbkgyoK8GWjAeEXU81Lcl1lZts7s1nU/rcdNqxZSvxBceMAXk6hyNH42GvXDDbvy8sNj55qulL6sJEeaw4=\n");
  absl::StatusOr<Checkpoint> opened = OpenCheckpoint(note, vkey);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->root, checkpoint.root);
  EXPECT_EQ(opened->size, 2u);
}

}  // namespace
}  // namespace orgtrail
