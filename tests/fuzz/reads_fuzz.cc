// What people and auditors may ask: requests of Query, Feed and Transparency as they come off the wire, on a small real log. The first byte
// says which, the second who; a page token or cursor of ours is put in when the request has one that begins with "~".
#include "aggregator/feed/subscription.h"
#include "aggregator/query/cursor.h"
#include "aggregator/transparency/service.h"
#include "common/format/note.h"
#include <google/protobuf/stubs/logging.h>

#include "tests/fuzz/call_seeds.h"
#include "tests/fuzz/target.h"
#include "tests/support/temp_history.h"

namespace orgtrail::fuzz {
namespace {

const Identity kPeople[] = {{Identity::Kind::kAuditor, "o-demo", "", "", "ann"},
                            {Identity::Kind::kUser, "o-demo", "111111111111", "", "uma"},
                            {Identity::Kind::kOperator, "o-demo", "", "", "olga"}};
const std::string kMacKey(32, 'k');

class World {
 public:
  World()
      : completeness_(*t_.builder.ledger, registry_, *t_.history, [](const AgentHead&) { return true; }, t_.clock),
        lookup_(*t_.history, *t_.builder.ledger, completeness_, kMacKey),
        transparency_(*t_.builder.ledger, registry_, lookup_, completeness_, NoteKey{t_.builder.origin, 1, t_.builder.log_key.public_key()}.Encode()) {
    TestAgent& one = t_.builder.Enrol("111111111111", "eu-west-1", "web-1");
    TestAgent& two = t_.builder.Enrol("222222222222", "us-east-1", "web-2");
    CHECK_OK(registry_.Load(*t_.builder.ledger));
    for (int i = 0; i < 5; ++i) {
      CHECK_OK(t_.builder.Fill(one, 5));
      CHECK_OK(t_.builder.Fill(two, 3));
    }
    t_.Settle();
  }

  void Run(std::string_view in) {
    Input input(in);
    const uint8_t which = input.Byte();
    const Identity& who = kPeople[input.Byte() % 3];
    const std::string_view rest = input.Rest();
    switch (which % 9) {
      case 0: return Lookup(who, rest);
      case 1: return Subscribe(who, rest);
      case 2: return Ask<v1::GetEventRequest>(rest, [&](const auto& r) { return lookup_.Get(who, r).status(); });
      case 3: return Ask<v1::GetInclusionRequest>(rest, [&](const auto& r) { return transparency_.Inclusion(r).status(); });
      case 4: return Ask<v1::GetConsistencyRequest>(rest, [&](const auto& r) { return transparency_.Consistency(r).status(); });
      case 5: return Ask<v1::GetTileRequest>(rest, [&](const auto& r) { return transparency_.Tile(r).status(); });
      case 6: return Ask<v1::GetEventProofRequest>(rest, [&](const auto& r) { return transparency_.Proof(who, r).status(); });
      case 7: return Ask<v1::GetCompletenessRequest>(rest, [&](const auto& r) { return transparency_.Completeness(who, r).status(); });
      default: {
        // A cursor's bytes, as a stranger sends them: none is ours.
        CHECK(!FeedCursor::Decode(rest, kMacKey, who, *t_.builder.ledger).ok() || rest == CursorText(who));
      }
    }
  }
  std::string CursorText(const Identity& who) const { return CursorWriter(kMacKey, who, *t_.builder.ledger).Text({3, 1}); }

 private:
  template <class Request, class F>
  void Ask(std::string_view bytes, F answer) {
    Request request;
    if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
    const absl::Status status = answer(request);
    CHECK(status.code() != absl::StatusCode::kInternal && status.code() != absl::StatusCode::kDataLoss);
  }
  void Lookup(const Identity& who, std::string_view bytes) {
    Ask<v1::LookupRequest>(bytes, [&](v1::LookupRequest request) {
      const bool follow = request.page_token().starts_with('~');
      if (follow) request.clear_page_token();
      absl::StatusOr<v1::LookupResponse> page = lookup_.Find(who, request);
      for (int pages = 0; follow && page.ok() && !page->next_page_token().empty() && pages < 5; ++pages) {
        request.set_page_token(page->next_page_token());
        page = lookup_.Find(who, request);
        CHECK_OK(page.status());
      }
      if (!page.ok() || who.kind != Identity::Kind::kUser) return page.status();
      for (const v1::Event& event : page->events()) CHECK(event.envelope().account() == who.account);
      return absl::OkStatus();
    });
  }
  void Subscribe(const Identity& who, std::string_view bytes) {
    Ask<v1::SubscribeRequest>(bytes, [&](v1::SubscribeRequest request) {
      if (request.cursor().starts_with('~')) request.set_cursor(CursorText(who));
      absl::StatusOr<std::unique_ptr<Subscription>> subscription = Subscription::Open(who, request, *t_.builder.ledger, kMacKey, t_.clock);
      if (!subscription.ok()) return subscription.status();
      v1::FeedMessage message;
      for (int i = 0; i < 50; ++i) {
        const absl::StatusOr<Subscription::Got> got = (*subscription)->Next(&message);
        CHECK_OK(got.status());
        if (*got == Subscription::Got::kCaughtUp || *got == Subscription::Got::kEnd) return absl::OkStatus();
      }
      CHECK(false);   // some thirty leaves: it must have come to an end
      return absl::OkStatus();
    });
  }

  TempHistory t_{10};
  Registry registry_;
  orgtrail::Completeness completeness_;
  orgtrail::Lookup lookup_;
  Transparency transparency_;
};

}  // namespace

void One(std::string_view in) {
  static google::protobuf::LogSilencer quiet;   // about text that is not UTF-8, and fields that do not end
  static World world;
  world.Run(in);
}

std::vector<std::string> Seeds() {
  CallSeeds seeds;
  for (const auto& [key, value] : {std::pair("EventName", "PutObject"), std::pair("SourceIp", "192.0.2.0/24"), std::pair("Username", "alice"),
                                   std::pair("ErrorCode", "")}) {
    v1::LookupRequest lookup;
    lookup.add_attributes()->set_key(key);
    lookup.mutable_attributes(0)->set_value(value);
    lookup.set_max_results(3);
    lookup.set_page_token("~");
    seeds.Add(0, 0, lookup);
  }
  v1::SubscribeRequest subscribe;
  subscribe.set_cursor("~");
  seeds.Add(1, 1, subscribe);
  subscribe.Clear();
  subscribe.add_accounts("111111111111");
  seeds.Add(1, 0, subscribe);
  v1::GetConsistencyRequest consistency;
  consistency.set_old_size(2);
  consistency.set_new_size(7);
  seeds.Add(4, 0, consistency);
  v1::GetInclusionRequest inclusion;
  seeds.Add(3, 0, inclusion);
  v1::GetTileRequest tile;
  seeds.Add(5, 0, tile);
  v1::GetEventProofRequest proof;
  seeds.Add(6, 0, proof);
  return seeds.all;
}

}  // namespace orgtrail::fuzz
