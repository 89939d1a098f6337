#include "aggregator/config.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace orgtrail {
namespace {

AggregatorConfig Least() {
  AggregatorConfig c;
  c.org = "o-demo";
  c.region = "us-east-1";
  c.management_account = "111111111111";
  c.accounts = {"111111111111", "222222222222"};
  c.regions = {"us-east-1", "eu-west-1"};
  c.state_dir = "/s";
  c.tls_certificate = "/t.crt";
  c.tls_key = "/t.key";
  c.ca_certificate = "/ca.crt";
  c.ca_key = "/ca.key";
  c.log_key = "/log.key";
  c.secrets = "/secrets";
  c.policy_note = "/p.note";
  c.policy_body = "/p.json";
  return c;
}

AggregatorConfig Odd() {  // nothing is its default, and paths are hostile
  AggregatorConfig c = Least();
  c.org = "1e3";          // a number to a careless reader
  c.domain = "example.org";
  c.region = "null";
  c.home = false;
  c.regions = {"null", "true"};
  c.state_dir = "/a b: c #d/\"quoted\"/\\back/'single'/%{x}/é";
  c.listen = "0.0.0.0:1";
  c.enrol_listen = "[::1]:2";
  c.certificate_life = absl::Minutes(90);
  c.metrics_listen = "";
  c.ledger_map_bytes = (1ull << 30) + 4096;
  c.ledger_shard_bytes = 300ull << 20;
  c.ledger_shard_period = absl::Hours(36);
  c.ledger_repack = false;
  c.ledger_kek = "/k e k";
  c.ledger_retention = absl::Hours(24 * 500);
  c.scrub_rate = 5 << 20;
  c.scrub_pause = absl::Minutes(90);
  c.tail_bytes = 5'000'000;
  c.history_keep = absl::Hours(24 * 400);
  c.reads_allow = false;
  c.alarm_webhook = "https://alerts.example.org/x?y=z#w";
  c.alarm_exec = "/usr/bin/page me";
  c.heartbeat_interval = absl::Milliseconds(1500);
  c.batch_interval_ms = 999;
  c.verify_threads = 64;
  return c;
}

TEST(AggregatorConfig, WhatIsRenderedIsReadBack) {
  for (const AggregatorConfig& c : {Least(), Odd()}) {
    const std::string text = RenderAggregatorConfig(c);
    auto r = ParseAggregatorConfig("aggregator.yaml", text);
    ASSERT_TRUE(r.ok()) << r.status() << "\n" << text;
    EXPECT_EQ(RenderAggregatorConfig(*r), text);
    EXPECT_EQ(std::tie(r->org, r->domain, r->region, r->home, r->management_account, r->accounts, r->regions, r->state_dir, r->listen),
              std::tie(c.org, c.domain, c.region, c.home, c.management_account, c.accounts, c.regions, c.state_dir, c.listen));
    EXPECT_EQ(std::tie(r->enrol_listen, r->enrol_method, r->certificate_life, r->metrics_listen, r->tls_certificate, r->tls_key, r->ca_certificate, r->ca_key),
              std::tie(c.enrol_listen, c.enrol_method, c.certificate_life, c.metrics_listen, c.tls_certificate, c.tls_key, c.ca_certificate, c.ca_key));
    EXPECT_EQ(std::tie(r->log_key, r->secrets, r->policy_note, r->policy_body, r->ledger_map_bytes, r->ledger_shard_bytes, r->ledger_shard_period, r->ledger_repack, r->ledger_kek, r->ledger_retention, r->scrub_rate, r->scrub_pause, r->tail_bytes, r->history_keep, r->reads_allow),
              std::tie(c.log_key, c.secrets, c.policy_note, c.policy_body, c.ledger_map_bytes, c.ledger_shard_bytes, c.ledger_shard_period, c.ledger_repack, c.ledger_kek, c.ledger_retention, c.scrub_rate, c.scrub_pause, c.tail_bytes, c.history_keep, c.reads_allow));
    EXPECT_EQ(std::tie(r->alarm_webhook, r->alarm_exec, r->heartbeat_interval, r->batch_interval_ms, r->verify_threads),
              std::tie(c.alarm_webhook, c.alarm_exec, c.heartbeat_interval, c.batch_interval_ms, c.verify_threads));
  }
}

TEST(AggregatorConfig, SaysItsDefaultsPlainly) {
  const std::string text = RenderAggregatorConfig(Least());
  for (const char* line : {"certificate_life: 24h", "map_bytes: 1TiB", "shard_bytes: 16GiB", "shard_period: 30d", "repack: true", "retention: forever", "rate: 16MiB", "pause: 24h", "tail_bytes: 32MiB", "keep: 90d", "reads: allow", "heartbeat_interval: 10s"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST(AggregatorConfig, Origin) {
  AggregatorConfig c = Least();
  EXPECT_EQ(c.Origin(), "orgtrail.orgtrail.internal/o-demo");
  c.home = false;
  EXPECT_EQ(c.Origin(), "orgtrail.orgtrail.internal/o-demo/us-east-1");
}

TEST(AggregatorConfig, MistakesAreNamed) {
  struct Case {
    std::function<void(AggregatorConfig&)> change;
    const char* message;  // from the key on
  };
  for (const Case& c : std::vector<Case>{
           {[](auto& a) { a.org = "O"; }, "org: expected an organization id such as o-demo, not \"O\""},
           {[](auto& a) { a.region = "a b"; }, "region: expected a region such as us-east-1, not \"a b\""},
           {[](auto& a) { a.management_account = "1"; }, "management_account: expected a 12-digit account id in quotes, not \"1\""},
           {[](auto& a) { a.accounts = {"2"}; }, "accounts: expected 12-digit account ids in quotes, not a list"},
           {[](auto& a) { a.regions = {"?"}; }, "regions: expected names such as eu-west-1, not a list"},
           {[](auto& a) { a.state_dir = "s"; }, "state_dir: expected an absolute path, not \"s\""},
           {[](auto& a) { a.listen = "7443"; }, "listen: expected ADDRESS:PORT such as 0.0.0.0:7443, not \"7443\""},
           {[](auto& a) { a.enrol_listen = ""; }, "enrol.listen: expected ADDRESS:PORT such as 0.0.0.0:7444, not \"\""},
           {[](auto& a) { a.metrics_listen = "x:"; }, "metrics.listen: expected ADDRESS:PORT such as 127.0.0.1:7481, or \"\" for none, not \"x:\""},
           {[](auto& a) { a.enrol_method = "password"; }, "enrol.method: expected token, not \"password\""},
           {[](auto& a) { a.certificate_life = absl::Minutes(1); }, "enrol.certificate_life: expected at least 5m; 24h is usual, not \"1m\""},
           {[](auto& a) { a.tls_certificate = ""; }, "tls.certificate: expected the path of a PEM file; `orgtrail org init` makes them, not \"\""},
           {[](auto& a) { a.tls_key = ""; }, "tls.key: expected the path of a PEM file; `orgtrail org init` makes them, not \"\""},
           {[](auto& a) { a.ca_certificate = ""; }, "tls.ca_certificate: expected the path of a PEM file; `orgtrail org init` makes them, not \"\""},
           {[](auto& a) { a.ca_key = ""; }, "tls.ca_key: expected the path of a PEM file; `orgtrail org init` makes them, not \"\""},
           {[](auto& a) { a.log_key = ""; }, "keys.log: expected the path of the log's signing key; `orgtrail org init` makes it, not \"\""},
           {[](auto& a) { a.secrets = ""; }, "keys.secrets: expected the path of a file of 32 random bytes; `orgtrail org init` makes it, not \"\""},
           {[](auto& a) { a.policy_body = ""; }, "policy.note: expected note and body, or neither, not \"/p.note\""},
           {[](auto& a) { a.ledger_map_bytes = 4096; }, "ledger.map_bytes: expected at least 16MiB; 1TiB is usual and costs no disk, not \"4KiB\""},
           {[](auto& a) { a.scrub_rate = 5; }, "ledger.scrub.rate: expected bytes a second, at least 1MiB; 0 for never, not \"5\""},
           {[](auto& a) { a.scrub_pause = absl::Milliseconds(5); }, "ledger.scrub.pause: expected at least 1s; 24h is usual, not \"5ms\""},
           {[](auto& a) { a.ledger_shard_bytes = 1024; }, "ledger.shard_bytes: expected 1MiB to three quarters of map_bytes; 16GiB is usual, not \"1KiB\""},
           {[](auto& a) { a.ledger_shard_bytes = 1ull << 40; }, "ledger.shard_bytes: expected 1MiB to three quarters of map_bytes; 16GiB is usual, not \"1TiB\""},
           {[](auto& a) { a.ledger_shard_period = absl::ZeroDuration(); }, "ledger.shard_period: expected at least 1s; 30d is usual, not \"0ms\""},
           {[](auto& a) { a.ledger_retention = absl::Hours(24 * 399); }, "ledger.retention: expected forever, or at least 400d: nothing younger is ever pruned, not \"399d\""},
           {[](auto& a) { a.tail_bytes = 0; }, "ledger.tail_bytes: expected at least 1MiB, not \"0\""},
           {[](auto& a) { a.history_keep = absl::ZeroDuration(); }, "history.keep: expected at least 1h; 90d is usual, not \"0ms\""},
           {[](auto& a) { a.alarm_webhook = "alerts"; }, "alarms.webhook: expected an address such as https://alerts.example.org/orgtrail, not \"alerts\""},
           {[](auto& a) { a.alarm_exec = "mail"; }, "alarms.exec: expected the absolute path of a program, not \"mail\""},
           {[](auto& a) { a.heartbeat_interval = absl::Seconds(61); }, "ingest.heartbeat_interval: expected 1s to 60s, not \"61s\""},
           {[](auto& a) { a.batch_interval_ms = 4; }, "ingest.batch_interval_ms: expected a whole number from 5 to 1000, not \"4\""},
           {[](auto& a) { a.verify_threads = 0; }, "ingest.verify_threads: expected a whole number from 1 to 64, not \"0\""},
           {[](auto& a) { a.connection_bytes = 1 << 20; }, "ingest.connection_bytes: expected at least 32MiB, not \"1MiB\""},
       }) {
    AggregatorConfig config = Least();
    c.change(config);
    const auto r = ParseAggregatorConfig("a.yaml", RenderAggregatorConfig(config));
    ASSERT_FALSE(r.ok()) << c.message;
    const std::string message(r.status().message());
    EXPECT_TRUE(message.starts_with("a.yaml:")) << message;
    EXPECT_EQ(message.substr(message.find(": ") + 2), c.message);
  }
  std::string text = RenderAggregatorConfig(Least());
  text.replace(text.find("reads: allow"), 12, "reads: maybe");
  EXPECT_NE(ParseAggregatorConfig("a.yaml", text).status().message().find("reads: expected allow or refuse, not \"maybe\""), absl::string_view::npos);
  EXPECT_NE(ParseAggregatorConfig("a.yaml", text + "alarm: {}\n").status().message().find("alarm: unknown key (did you mean alarms?)"), absl::string_view::npos);
}

}  // namespace
}  // namespace orgtrail
