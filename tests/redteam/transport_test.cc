// Below the messages: sockets, TLS, HTTP/2 and gRPC as no library would speak them, while an honest agent goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "common/base/bytes.h"
#include "tests/redteam/bare.h"
#include "tests/redteam/memory_bound.h"
#include "tests/redteam/rogue.h"
#include "tests/redteam/table.h"

namespace orgtrail::e2e {
namespace {

using ::testing::HasSubstr;
using grpc::StatusCode;

constexpr char kPush[] = "/orgtrail.v1.Ingest/Push";

std::string RecordOf(const std::string& id) {
  return R"({"eventTime":"2026-11-20T09:01:44Z","awsRegion":"us-east-1","eventName":"Red","eventID":")" + id + R"(","recipientAccountId":"222222222222"})";
}

// grpc-status in a header block as gRPC writes it: names and values in the clear. -1: not there.
int StatusIn(const std::string& block) {
  const size_t at = block.find("grpc-status");
  if (at == std::string::npos || at + 12 > block.size()) return -1;
  return std::atoi(block.substr(at + 12, static_cast<size_t>(block[at + 11])).c_str());
}

class Transport : public ::testing::Test {
 protected:
  Transport() : organization({.replace = {{"  connection_bytes: ", "  connection_bytes: 64MiB"}}}), honest(organization.StartAgent({})), rogue(organization, "rogue") { honest.Record(RecordOf("before")); }
  // The honest agent's next record reaches the feed, whatever goes on.
  void ExpectUnaffected(const std::string& id) {
    honest.Record(RecordOf(id));
    EXPECT_TRUE(Eventually(kSoon, [&] {
      const Ran found = organization.Orgtrail({"events", "lookup", "-a", "EventId=" + id, "-o", "jsonl"}, "auditor");
      return found.out.find(id) != std::string::npos;
    })) << organization.AggregatorLogTail();
  }
  std::unique_ptr<BareTls> Connect() { return Connect(rogue); }
  std::unique_ptr<BareTls> Connect(const Rogue& who) {
    const TlsFiles files = who.files();
    auto tls = std::make_unique<BareTls>(organization.port(), files.cert, files.key, files.ca);
    EXPECT_TRUE(tls->connected());
    return tls;
  }
  std::string Authority() const { return organization.server(); }
  std::string Hello() const { return Hello(rogue); }
  static std::string Hello(const Rogue& who) {
    v1::PushRequest request;
    request.mutable_hello()->set_agent_uuid(std::string(who.uuid().view()));
    return h2::Frame(h2::kData, 0, 1, h2::Message(request.SerializeAsString()));
  }
  // Reads until stream 1 ended: its grpc-status; -2: reset; -3: the connection is over; -1: nothing within the limit.
  int Ending(BareTls& tls, absl::Duration limit) {
    h2::Reader reader(tls);
    const absl::Time until = absl::Now() + limit;
    while (absl::Now() < until) {
      const std::optional<h2::Seen> seen = reader.Next(until - absl::Now());
      if (!seen) return tls.closed() ? -3 : -1;
      if (seen->type == h2::kPing && (seen->flags & 1) == 0) tls.Write(h2::Frame(h2::kPing, 1, 0, seen->payload));
      if (seen->type == h2::kReset && seen->stream == 1) return -2;
      if (seen->type == h2::kHeaders && seen->stream == 1 && (seen->flags & 1) != 0) return StatusIn(seen->payload);
    }
    return -1;
  }
  // Sends `bytes` on stream 1 as fast as the other side's windows let it, until it ended or nothing moves for `patience`: its
  // grpc-status, or as Ending.
  int Pour(BareTls& tls, std::string_view bytes, absl::Duration patience) {
    h2::Reader reader(tls);
    int64_t connection = 65'535, stream = 65'535, initial = 65'535;
    for (;;) {
      const int64_t room = std::min<int64_t>({connection, stream, 16'384, static_cast<int64_t>(bytes.size())});
      if (room > 0) {
        if (!tls.Write(h2::Frame(h2::kData, 0, 1, bytes.substr(0, static_cast<size_t>(room))))) return -3;
        bytes.remove_prefix(static_cast<size_t>(room));
        connection -= room, stream -= room;
      }
      const std::optional<h2::Seen> seen = reader.Next(room > 0 ? absl::ZeroDuration() : patience);
      if (!seen && tls.closed()) return -3;
      if (!seen && room <= 0) return -1;
      if (!seen) continue;
      if (seen->type == h2::kPing && (seen->flags & 1) == 0) tls.Write(h2::Frame(h2::kPing, 1, 0, seen->payload));
      if (seen->type == h2::kWindow) (seen->stream == 0 ? connection : stream) += GetU32(seen->payload.data());
      if (seen->type == h2::kSettings && (seen->flags & 1) == 0) {
        for (size_t at = 0; at + 6 <= seen->payload.size(); at += 6) {
          if (GetU16(seen->payload.data() + at) != 4) continue;
          const int64_t now = GetU32(seen->payload.data() + at + 2);
          stream += now - std::exchange(initial, now);
        }
        tls.Write(h2::Frame(h2::kSettings, 1, 0, ""));
      }
      if (seen->type == h2::kReset && seen->stream == 1) return -2;
      if (seen->type == h2::kHeaders && seen->stream == 1 && (seen->flags & 1) != 0) return StatusIn(seen->payload);
    }
  }
  static bool Closes(BareTls& tls) {
    return Eventually(kSoon, [&] {
      tls.Read(absl::Milliseconds(100));
      return tls.closed();
    });
  }
  int64_t Memory() { return organization.aggregator().ResidentBytes(); }

  Organization organization;
  AgentProcess& honest;
  const Rogue rogue;
};

ATTACK(46, "256 MiB of zeros as one gzip-compressed gRPC message", "gRPC 12 UNIMPLEMENTED: transport compression is off; memory grows by less than 8 MiB");
ATTACK(49, "a message of 4 GiB by its length prefix, and 200 MiB of it on a stream that said hello",
       "the stream ends when all connections buffer ingest.connection_bytes: gRPC buffers what comes before it compares the length");
ATTACK(56, "a message of 10^6 unknown fields, one nested 10,000 deep, as the first and as a later one", "`FRAME_MALFORMED`, gRPC 3");
TEST_F(Transport, MessagesThatAreLargerThanTheySay) {
  const std::string bomb = organization.Path("bomb.gz");
  ASSERT_EQ(RunProgram({"/bin/sh", "-c", "head -c 268435456 /dev/zero | gzip -c > " + bomb}).code, 0);
  const int64_t before = Memory();
  {
    const std::unique_ptr<BareTls> tls = Connect();
    std::string message = h2::Message(ReadWhole(bomb));
    message[0] = 1;
    std::string sent(h2::kPreface);
    sent += h2::Settings({}) + h2::Frame(h2::kHeaders, 4, 1, h2::CallHeaders(kPush, Authority(), {{"grpc-encoding", "gzip"}}));
    ASSERT_TRUE(tls->Write(sent));
    EXPECT_EQ(Pour(*tls, message, absl::Seconds(15)), 12);
  }
  EXPECT_LT(Memory() - before, MemoryBound(8 << 20));
  {
    const std::unique_ptr<BareTls> tls = Connect();
    std::string sent(h2::kPreface), data("\0\xff\xff\xff\xff", 5);
    sent += h2::Settings({}) + h2::Frame(h2::kHeaders, 4, 1, h2::CallHeaders(kPush, Authority())) + Hello();
    ASSERT_TRUE(tls->Write(sent));
    data.append(200 << 20, 'x');
    const int end = Pour(*tls, data, absl::Seconds(15));
    EXPECT_NE(end, -1) << "it took all of it, or stands still";
    EXPECT_LT(Memory() - before, MemoryBound(128 << 20));
  }
  std::string unknown, nested(10'000, '\x0b');   // field 1 as a group, ten thousand deep
  for (int i = 0; i < 1'000'000; ++i) unknown += std::string("\x98\x06\x01", 3);
  nested += std::string(10'000, '\x0c');
  for (const std::string& message : {unknown, nested}) {
    for (const bool greeted : {false, true}) {
      PushStream stream(organization.server(), rogue.files());
      if (greeted) {
        ASSERT_TRUE(stream.Hello(rogue.uuid()));
        ASSERT_TRUE(stream.Next().has_value());
      }
      stream.Raw(message);
      const std::optional<v1::PushResponse> refused = stream.Next();
      ASSERT_TRUE(refused && refused->has_refusal());
      EXPECT_EQ(refused->refusal().code(), "FRAME_MALFORMED");
      EXPECT_FALSE(stream.Next().has_value());
      EXPECT_EQ(stream.Finish().error_code(), StatusCode::INVALID_ARGUMENT);
    }
  }
  ExpectUnaffected("after");
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(50, "a TLS handshake of one byte a second; a stream that never says hello; headers that never end",
       "ended within 10 s, 10 s and the keepalive's 30 s");
ATTACK(50, "a message that trickles in behind a hello, a byte a second", "its stream ends after 30 s without a whole message: DEADLINE_EXCEEDED");
ATTACK(54, "an agent that never reads: a flow-control window of zero", "its stream is cancelled after 30 s");
TEST_F(Transport, ThoseWhoAreSlowOnPurpose) {
  const absl::Time begin = absl::Now();
  // 54: the Welcome cannot leave.
  const std::unique_ptr<BareTls> deaf = Connect();
  ASSERT_TRUE(deaf->Write(std::string(h2::kPreface) + h2::Settings({{4, 0}}) + h2::Frame(h2::kHeaders, 4, 1, h2::CallHeaders(kPush, Authority())) + Hello()));
  // Headers without an end; and who answers pings, but says nothing.
  const std::unique_ptr<BareTls> endless = Connect(), mute = Connect();
  const std::string block = h2::CallHeaders(kPush, Authority());
  ASSERT_TRUE(endless->Write(std::string(h2::kPreface) + h2::Settings({}) + h2::Frame(h2::kHeaders, 0, 1, std::string_view(block).substr(0, 20))));
  ASSERT_TRUE(mute->Write(std::string(h2::kPreface) + h2::Settings({}) + h2::Frame(h2::kHeaders, 4, 1, block)));
  // A megabyte in a byte a second, by who said hello and was welcomed.
  const Rogue second(organization, "rogue-2");
  const std::unique_ptr<BareTls> trickle = Connect(second);
  ASSERT_TRUE(trickle->Write(std::string(h2::kPreface) + h2::Settings({}) + h2::Frame(h2::kHeaders, 4, 1, block) + Hello(second) +
                             h2::Frame(h2::kData, 0, 1, std::string("\0\0\x10\0\0", 5))));
  int trickled = -1;
  std::thread trickling([&] {
    for (const absl::Time until = absl::Now() + absl::Seconds(90); absl::Now() < until && trickled == -1;) {
      if (!trickle->Write(h2::Frame(h2::kData, 0, 1, "x"))) trickled = -3;
      if (trickled == -1) trickled = Ending(*trickle, absl::Seconds(1));
    }
  });
  // One byte a second of a ClientHello.
  const int slow = Dial(organization.port());
  ASSERT_GE(slow, 0);
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  bool closed = false;
  for (size_t i = 0; i < 20 && !closed; ++i) {
    closed = send(slow, hello.data() + i % hello.size(), 1, MSG_NOSIGNAL) != 1;
    pollfd ready{slow, POLLIN, 0};
    char byte = 0;
    if (poll(&ready, 1, 1000) > 0) closed = recv(slow, &byte, 1, 0) <= 0;
  }
  close(slow);
  EXPECT_TRUE(closed) << "a handshake of one byte a second is still open after 20 s";
  ExpectUnaffected("meanwhile");
  EXPECT_EQ(Ending(*mute, absl::Seconds(20)), static_cast<int>(StatusCode::DEADLINE_EXCEEDED));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(40));
  EXPECT_NE(Ending(*deaf, absl::Seconds(60)), -1) << "a stream that is not read is still there after a minute";
  h2::Reader quiet(*endless);   // it answers no ping either
  while (quiet.Next(absl::Seconds(40))) {
  }
  EXPECT_TRUE(endless->closed());
  trickling.join();
  EXPECT_EQ(trickled, static_cast<int>(StatusCode::DEADLINE_EXCEEDED));
  EXPECT_GT(absl::Now() - begin, absl::Seconds(30));
  ExpectUnaffected("after");
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(51, "2,000 connections without a call of one identity", "100 at once and 20 a second get through the handshake, and end after a minute: below 256 KiB each");
TEST_F(Transport, ManyConnections) {
  const int64_t before = Memory();
  const Rogue idler(organization, "idler");
  const TlsFiles files = idler.files();
  const absl::Time begin = absl::Now();
  std::vector<std::unique_ptr<BareTls>> idle;
  for (int i = 0; i < 2000; ++i) {
    auto tls = std::make_unique<BareTls>(organization.port(), files.cert, files.key, files.ca);
    // With TLS 1.3 a client is through before the server has seen its certificate: only an answer says that it was let in.
    if (tls->connected() && tls->Write(std::string(h2::kPreface) + h2::Settings({})) && !tls->Read(absl::Seconds(5)).empty()) idle.push_back(std::move(tls));
  }
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  EXPECT_GE(idle.size(), 100u);
  EXPECT_LE(static_cast<double>(idle.size()), 100 + 20 * seconds + 1);
  EXPECT_LT(Memory() - before, MemoryBound(static_cast<int64_t>(idle.size()) * (256 << 10)));
  std::printf("%zu of 2,000 connections in %.1f s\n", idle.size(), seconds);
  ExpectUnaffected("idle");
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(51, "ten streams of one identity", "two are served, the others `RATE_LIMIT` (8)");
ATTACK(52, "20,000 streams opened and reset, 20,000 pings, 20,000 SETTINGS, a header list of 64 KiB", "the connection is closed after some 200 calls, or the frames are ignored; memory never grows by more than 256 MiB; other agents go on");
ATTACK(53, "100 streams on one connection, and 1,000", "two are served, the others `RATE_LIMIT` (8); beyond 200 the connection is closed");
TEST_F(Transport, ManyOfEverything) {
  const int64_t before = Memory();
  {
    std::vector<std::unique_ptr<PushStream>> streams;
    int welcomed = 0, limited = 0;
    for (int i = 0; i < 10; ++i) {
      streams.push_back(std::make_unique<PushStream>(organization.server(), rogue.files()));
      streams.back()->Hello(rogue.uuid());
      if (streams.back()->Next()) {
        ++welcomed;
      } else {
        const grpc::Status ended = streams.back()->Finish();
        limited += ended.error_code() == StatusCode::RESOURCE_EXHAUSTED && ended.error_message().starts_with("RATE_LIMIT");
      }
    }
    EXPECT_EQ(welcomed, 2);
    EXPECT_EQ(limited, 8);
  }
  const std::string block = h2::CallHeaders(kPush, Authority());
  {
    const std::unique_ptr<BareTls> tls = Connect();
    std::string sent(h2::kPreface);
    sent += h2::Settings({});
    for (uint32_t i = 0; i < 100; ++i) sent += h2::Frame(h2::kHeaders, 4, 1 + 2 * i, block);
    ASSERT_TRUE(tls->Write(sent));
    h2::Reader reader(*tls);
    int limited = 0;
    ASSERT_TRUE(Eventually(kSoon, [&] {
      const std::optional<h2::Seen> seen = reader.Next(absl::Seconds(5));
      // Later trailers name the status by an index into the header table: that the stream ends at once is what is counted.
      limited += seen && seen->type == h2::kHeaders && (seen->flags & 1) != 0;
      return limited >= 98 || tls->closed();
    })) << limited;
    EXPECT_EQ(limited, 98);
    EXPECT_FALSE(tls->closed());
    sent.clear();
    for (uint32_t i = 100; i < 1000; ++i) sent += h2::Frame(h2::kHeaders, 4, 1 + 2 * i, block);
    tls->Write(sent);
    EXPECT_TRUE(Closes(*tls));
  }
  const auto flood = [&](const char* what, bool closes, const std::function<std::string(uint32_t)>& frame) {
    SCOPED_TRACE(what);
    const std::unique_ptr<BareTls> tls = Connect();
    std::string sent(h2::kPreface);
    sent += h2::Settings({});
    for (uint32_t i = 0; i < 20'000 && !tls->closed(); ++i) {
      sent += frame(i);
      if (sent.size() < 60'000) continue;
      if (!tls->Write(sent)) break;
      sent.clear();
      tls->Read(absl::ZeroDuration());   // so that its answers do not stop it
    }
    EXPECT_TRUE(!closes || Closes(*tls));
    ExpectUnaffected(what);
  };
  flood("reset", true, [&](uint32_t i) {
    return h2::Frame(h2::kHeaders, 4, 1 + 2 * i, block) + h2::Frame(h2::kReset, 0, 1 + 2 * i, std::string("\0\0\0\x08", 4));
  });
  flood("ping", false, [](uint32_t) { return h2::Frame(h2::kPing, 0, 0, "12345678"); });
  flood("settings", false, [](uint32_t) { return h2::Settings({{4, 65'535}}); });
  {
    const std::unique_ptr<BareTls> tls = Connect();
    std::string big = h2::CallHeaders(kPush, Authority(), {{"x-long", std::string(64 << 10, 'a')}});
    std::string sent(h2::kPreface);
    sent += h2::Settings({}) + h2::Frame(h2::kHeaders, 0, 1, std::string_view(big).substr(0, 16'000));
    for (size_t at = 16'000; at < big.size(); at += 16'000) {
      sent += h2::Frame(h2::kContinuation, at + 16'000 >= big.size() ? 4 : 0, 1, std::string_view(big).substr(at, 16'000));
    }
    tls->Write(sent);
    EXPECT_NE(Ending(*tls, kSoon), -1);
  }
  // Of the resets, above all: what gRPC makes of a stream before it is asked whether it may.
  const int64_t peak = organization.aggregator().PeakBytes() - before;
  EXPECT_LT(peak, MemoryBound(256 << 20));
  std::printf("%lld MiB more than before at the most, %lld at the end\n", static_cast<long long>(peak >> 20), static_cast<long long>((Memory() - before) >> 20));
  ExpectUnaffected("after");
  EXPECT_EQ(organization.Verify().code, 0);
}

ATTACK(55, "6,000 batches of nothing, as fast as they can be written", "checked at no more than 2,000 a second and a burst of 2,000; beyond that `RATE_LIMIT` with retry_ms, and nothing of it is lost");
TEST_F(Transport, AFloodOfTinyBatches) {
  Forger flood = rogue.Signer();
  std::vector<std::string> frames;
  for (int epoch = 0; epoch < 6; ++epoch) {
    if (epoch > 0) {
      flood.tree = std::make_unique<KeyTree>(flood.rng);
      while (!flood.tree->Grow(1024)) {
      }
    }
    frames.push_back(flood.Open());
    for (int i = 0; i < 999; ++i) frames.push_back(flood.Batch({}));
  }
  const absl::Time begin = absl::Now();
  size_t acked = 0, next = 0;
  bool limited = false;
  while (acked < frames.size()) {
    PushStream stream(organization.server(), rogue.files(), absl::Seconds(60));
    ASSERT_TRUE(stream.Hello(rogue.uuid()));
    std::atomic<bool> stop{false};
    std::thread writer([&, from = next] {
      for (size_t i = from; i < frames.size() && !stop; ++i) {
        if (!stream.Frame(frames[i])) return;
      }
    });
    std::optional<v1::PushResponse> r;
    while (acked < frames.size() && (r = stream.Next())) {
      for (const v1::LeafReceipt& leaf : r->receipt().leaves()) acked = std::max(acked, (leaf.epoch() - 1) * 1000 + leaf.batch_seq() + 1);
      if (!r->has_refusal()) continue;
      if (r->refusal().code() == "RATE_LIMIT") {
        limited = true;
        EXPECT_GT(r->refusal().retry_ms(), 0u);
      } else {
        EXPECT_EQ(r->refusal().code(), "CHAIN_EXPECT") << r->refusal().detail();
      }
      break;
    }
    stop = true;
    stream.Finish();
    writer.join();
    next = acked;
    ASSERT_LT(absl::Now() - begin, absl::Seconds(60));
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    EXPECT_LE(static_cast<double>(acked), 2000 + 2000 * (seconds + 1));
  }
  std::printf("%zu batches in %.1f s%s\n", acked, absl::ToDoubleSeconds(absl::Now() - begin), limited ? ", held back by RATE_LIMIT" : "");
  ExpectUnaffected("after");
  EXPECT_EQ(organization.Verify().code, 0);
}

}  // namespace
}  // namespace orgtrail::e2e
