#include "aggregator/alarms/notifier.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/base/guarded.h"
#include "common/base/status.h"
#include "common/fs/file.h"
#include "common/http/server.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

AlarmState Alarm(std::string detail = "d") {
  AlarmState a;
  a.id = "id-1";
  a.code = "DISK_LOW";
  a.subject = "/d";
  a.detail = std::move(detail);
  return a;
}

class NotifierTest : public ::testing::Test {
 protected:
  struct Seen {
    std::vector<std::string> bodies;
    int refuse = 0;   // that many with 503
  };
  std::string Hook() {
    server_ = *HttpServer::Start({.listen = "127.0.0.1:0"}, [this](const HttpRequest& q) {
      return seen_.With([&](Seen& s) {
        EXPECT_EQ(q.method, "POST");
        EXPECT_EQ(q.Header("content-type"), "application/json");
        s.bodies.push_back(std::string(q.body));
        HttpResponse r;
        if (s.refuse-- > 0) r.status = 503;
        return r;
      });
    });
    return "http://127.0.0.1:" + std::to_string(server_->port()) + "/alarm";
  }
  std::string Script(const std::string& text) {
    const std::string path = dir_ / "script";
    CHECK_OK(WriteFileAtomically(PosixFs(), path, "#!/bin/sh\n" + text, 0755));
    chmod(path.c_str(), 0755);
    return path;
  }
  void Tell(const std::string& hook, const std::string& exec, std::string detail = "d") {
    notifier_ = std::make_unique<Notifier>(hook, exec, metrics_, absl::Milliseconds(1));
    notifier_->Start();
    notifier_->Notify(Alarm(std::move(detail)));
  }
  double Sent() { return metrics_.GetCounter("orgtrail_alarm_notifications_total", "").Value(); }
  double Failed() { return metrics_.GetCounter("orgtrail_alarm_notifications_failed_total", "").Value(); }
  void Settle() {
    for (int i = 0; i < 5000 && Sent() + Failed() < 1; ++i) Tick_();
  }
  static void Tick_() {
    Guarded<bool> never{false};
    never.WhenFor(absl::Milliseconds(2), [](bool b) { return b; }, [](bool, bool) {});
  }

  TempDir dir_;
  Metrics metrics_;
  Guarded<Seen> seen_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<Notifier> notifier_;
};

TEST_F(NotifierTest, AWebhookGetsTheAlarmOnce) {
  Tell(Hook(), "");
  Settle();
  EXPECT_EQ(Sent(), 1);
  EXPECT_EQ(seen_.Peek([](const Seen& s) { return s.bodies; }), std::vector<std::string>{AlarmJson(Alarm())});
}

TEST_F(NotifierTest, ARefusingWebhookIsAskedAgain) {
  const std::string hook = Hook();
  seen_.With([](Seen& s) { s.refuse = 3; });
  Tell(hook, "");
  Settle();
  EXPECT_EQ(Sent(), 1);
  EXPECT_EQ(seen_.Peek([](const Seen& s) { return s.bodies.size(); }), 4u);
}

TEST_F(NotifierTest, EightAttemptsAreMade) {
  const std::string hook = Hook();
  seen_.With([](Seen& s) { s.refuse = 100; });
  Tell(hook, "");
  Settle();
  EXPECT_EQ(Failed(), 1);
  EXPECT_EQ(Sent(), 0);
  EXPECT_EQ(seen_.Peek([](const Seen& s) { return s.bodies.size(); }), 8u);
}

TEST_F(NotifierTest, NobodyListens) {
  Tell("http://127.0.0.1:1/", "");
  Settle();
  EXPECT_EQ(Failed(), 1);
}

TEST_F(NotifierTest, AProgramGetsTheAlarmOnStandardInput) {
  const std::string big(200'000, 'x');  // more than a pipe holds
  Tell("", Script("cat > " + (dir_ / "out") + ".tmp && mv " + (dir_ / "out") + ".tmp " + (dir_ / "out") + "\n"), big);
  Settle();
  EXPECT_EQ(Sent(), 1);
  EXPECT_EQ(*ReadFile(PosixFs(), dir_ / "out"), AlarmJson(Alarm(big)));
}

TEST_F(NotifierTest, AProgramThatFailsIsRunAgainAndTheWebhookIsNotAskedTwice) {
  const std::string count = dir_ / "count";
  Tell(Hook(), Script("echo x >> " + count + "\n[ $(wc -l < " + count + ") -ge 3 ]\n"));
  Settle();
  EXPECT_EQ(Sent(), 1);
  EXPECT_EQ(*ReadFile(PosixFs(), count), "x\nx\nx\n");
  EXPECT_EQ(seen_.Peek([](const Seen& s) { return s.bodies.size(); }), 1u);
}

TEST_F(NotifierTest, AProgramNeedNotRead) {   // nor does its early end harm this process
  Tell("", Script("exec <&-\nexit 0\n"));
  Settle();
  EXPECT_EQ(Sent(), 1);
}

TEST_F(NotifierTest, AMissingProgramIsAFailure) {
  Tell("", dir_ / "none");
  Settle();
  EXPECT_EQ(Failed(), 1);
}

TEST_F(NotifierTest, StopDoesNotWaitForAProgram) {
  Tell("", Script("echo x > " + (dir_ / "started") + "\nsleep 100\n"));
  for (int i = 0; i < 5000 && !PosixFs().Facts(dir_ / "started").ok(); ++i) Tick_();
  const Tick before = SystemClock().Now();
  notifier_->Stop();
  EXPECT_LT(SystemClock().Now() - before, absl::Seconds(5));
}

TEST_F(NotifierTest, WithoutAnybodyToTellNothingHappens) {
  Tell("", "");
  notifier_->Stop();
  EXPECT_EQ(Sent() + Failed(), 0);
}

TEST_F(NotifierTest, TooManyAreCounted) {
  Notifier idle("http://127.0.0.1:1/", "", metrics_);   // never started
  for (int i = 0; i < 1010; ++i) idle.Notify(Alarm());
  EXPECT_EQ(Failed(), 10);
}

}  // namespace
}  // namespace orgtrail
