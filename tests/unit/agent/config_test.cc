#include "agent/config.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr const char* kLeast =
    "account: \"222222222222\"\nregion: eu-west-1\nname: web-1\naggregators: [a.example:7443]\nsources:\n- http: {listen: 127.0.0.1:8787}\n";

std::string Mistakes(const std::string& text) {
  auto c = ParseAgentConfig("agent.yaml", text);
  return c.ok() ? "ok" : std::string(c.status().message());
}

TEST(AgentConfig, EveryKey) {
  auto c = ParseAgentConfig("agent.yaml", R"(account: "222222222222"
region: eu-west-1
name: web-1
state_dir: /var/lib/x
aggregators: [a.example.org:7443, "[::1]:7443"]
enrol: {endpoint: a.example.org:7444, token_file: /etc/token}
spool: {max_bytes: 8GiB, min_free: 12.5%}
batch_interval_ms: 50
metrics: {listen: 127.0.0.1:7480}
prune: L1
ephemeral: true
sources:
  - file: {path: /var/log/x/*.jsonl, from: end}
  - file: {path: /var/log/y}
  - http: {listen: 127.0.0.1:8787}
  - http: {listen: "0.0.0.0:8788", token_file: /etc/post-token}
  - http: {listen: "unix:/run/a.sock", allow_users: [app, "1000"]}
)");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->state_dir, "/var/lib/x");
  EXPECT_EQ(c->aggregators.size(), 2u);
  EXPECT_EQ(c->enrol_endpoint, "a.example.org:7444");
  EXPECT_EQ(c->token_file, "/etc/token");
  EXPECT_EQ(c->spool_max_bytes, 8ull << 30);
  EXPECT_DOUBLE_EQ(c->spool_min_free, 0.125);
  EXPECT_EQ(c->batch_interval_ms, 50);
  EXPECT_EQ(c->metrics_listen, "127.0.0.1:7480");
  EXPECT_TRUE(c->ephemeral);
  ASSERT_EQ(c->files.size(), 2u);
  EXPECT_TRUE(c->files[0].from_end);
  EXPECT_FALSE(c->files[1].from_end);
  ASSERT_EQ(c->https.size(), 3u);
  EXPECT_EQ(c->https[2].allow_users, (std::vector<std::string>{"app", "1000"}));
}

TEST(AgentConfig, Defaults) {
  auto c = ParseAgentConfig("agent.yaml", kLeast);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->state_dir, "/var/lib/orgtrail-agent");
  EXPECT_EQ(c->spool_max_bytes, 0u);
  EXPECT_DOUBLE_EQ(c->spool_min_free, 0.10);
  EXPECT_EQ(c->batch_interval_ms, 20);
  EXPECT_EQ(c->metrics_listen, "");
  EXPECT_EQ(c->prune, "L1");
  EXPECT_FALSE(c->ephemeral);
}

TEST(AgentConfig, MistakesAreNamed) {
  struct Case {
    const char *was, *is, *message;
  };
  for (const Case& c : {
           Case{"\"222222222222\"", "22", "agent.yaml:1: account: expected a 12-digit account id in quotes, such as \"222222222222\", not \"22\""},
           {"region: eu-west-1\n", "", "agent.yaml:1: region: expected a region such as eu-west-1, but it is missing"},
           {"web-1", "Web_1!", "agent.yaml:3: name: expected a name of a-z, 0-9, '.', '_' and '-', at most 64 characters, such as web-1, not \"Web_1!\""},
           {"[a.example:7443]", "[]", "agent.yaml:4: aggregators: expected at least one HOST:PORT, such as [aggregator.example.org:7443], not a list"},
           {"[a.example:7443]", "[a.example]", "agent.yaml:4: aggregators: expected HOST:PORT in each element, not a list"},
           {"a.example:7443", "a.example:74430", "agent.yaml:4: aggregators: expected HOST:PORT in each element, not a list"},
           {"name: web-1", "name: web-1\nstate_dir: x", "agent.yaml:4: state_dir: expected an absolute path, not \"x\""},
           {"name: web-1", "name: web-1\nenrol: {endpoint: a}", "agent.yaml:4: enrol.endpoint: expected HOST:PORT, such as aggregator.example.org:7444, not \"a\""},
           {"name: web-1", "name: web-1\nspool: {max_byte: 8GiB}", "agent.yaml:4: spool.max_byte: unknown key (did you mean max_bytes?)"},
           {"name: web-1", "name: web-1\nspool: {max_bytes: 1MiB}", "agent.yaml:4: spool.max_bytes: expected at least 16MiB, not \"1MiB\""},
           {"name: web-1", "name: web-1\nspool: {min_free: 95%}", "agent.yaml:4: spool.min_free: expected at most 90%, not \"95%\""},
           {"name: web-1", "name: web-1\nbatch_interval_ms: 4", "agent.yaml:4: batch_interval_ms: expected a whole number from 5 to 1000, not \"4\""},
           {"name: web-1", "name: web-1\nmetrics: {listen: x}",
            "agent.yaml:4: metrics.listen: expected ADDRESS:PORT such as 127.0.0.1:7480; leave it out for none, not \"x\""},
           {"name: web-1", "name: web-1\nprune: L3", "agent.yaml:4: prune: expected L1: what has a receipt of this log may go when space is needed, not \"L3\""},
           {"name: web-1", "name: web-1\nephemeral: yes", "agent.yaml:4: ephemeral: expected true or false, not \"yes\""},
           {"sources:\n- http: {listen: 127.0.0.1:8787}\n", "", "agent.yaml:1: sources: expected at least one source, such as: - http: {listen: 127.0.0.1:8787}, but it is missing"},
           {"listen: 127.0.0.1:8787", "listen: 0.0.0.0:8787",
            "agent.yaml:6: sources[0].http.listen: expected a loopback address or a Unix socket, or a token_file beside it: anybody could post records otherwise, not \"0.0.0.0:8787\""},
           {"listen: 127.0.0.1:8787", "listen: 127.0.0.1",
            "agent.yaml:6: sources[0].http.listen: expected ADDRESS:PORT such as 127.0.0.1:8787, or unix:/run/orgtrail/agent.sock, not \"127.0.0.1\""},
           {"http: {listen: 127.0.0.1:8787}", "file: {path: logs}",
            "agent.yaml:6: sources[0].file.path: expected an absolute path or glob, such as /var/log/audit-events/*.jsonl, not \"logs\""},
           {"http: {listen: 127.0.0.1:8787}", "file: {path: /x, from: middle}", "agent.yaml:6: sources[0].file.from: expected start or end, not \"middle\""},
           {"http: {listen: 127.0.0.1:8787}", "journal: {}",
            "agent.yaml:6: sources[0].journal: unknown key (known here: file, http)\n"
            "agent.yaml:6: sources[0].file: expected exactly one of file, http, but it is missing"},
           {"region: eu-west-1", "regoin: eu-west-1", "agent.yaml:2: regoin: unknown key (did you mean region?)"},
       }) {
    std::string text = kLeast;
    const size_t at = text.find(c.was);
    ASSERT_NE(at, std::string::npos) << c.was;
    text.replace(at, std::string(c.was).size(), c.is);
    EXPECT_EQ(Mistakes(text), c.message) << text;
  }
}

}  // namespace
}  // namespace orgtrail
