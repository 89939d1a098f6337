#include "common/config/yaml.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace orgtrail {
namespace {

struct Settings {
  std::string name = "unset";
  bool on = false;
  int64_t port = 1;
  uint64_t bytes = 0;
  absl::Duration wait;
  double share = 0;
  std::vector<std::string> hosts;
  std::vector<std::string> files;
  std::string deep;
};

absl::Status Read(std::string_view text, Settings* s) {
  ASSIGN_OR_RETURN(YamlFile file, YamlFile::Parse("a.yaml", text));
  const YamlNode root = file.root();
  root.String("name", &s->name);
  root.Bool("on", &s->on);
  root.Int("port", &s->port, 1, 65535);
  root.Strings("hosts", &s->hosts);
  const YamlNode spool = root.Map("spool");
  spool.Bytes("max_bytes", &s->bytes);
  spool.Duration("wait", &s->wait);
  spool.Percent("min_free", &s->share);
  for (const YamlNode& source : root.List("sources")) {
    const YamlNode f = source.Map("file");
    std::string path;
    f.String("path", &path);
    if (path.empty()) f.Complain("path", "an absolute path");
    s->files.push_back(path);
  }
  if (s->port == 7) root.Complain("port", "a port that is not 7");
  return file.Finish();
}

std::string Mistakes(std::string_view text) {
  Settings s;
  absl::Status status = Read(text, &s);
  if (status.ok()) return "ok";
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(Yaml, ReadsEveryKind) {
  Settings s;
  const absl::Status status = Read(R"(# all of it
name: web-1
on: true
port: 8787
hosts: [a.example:7443, "b.example:7443"]
spool: {max_bytes: 8GiB, min_free: 12.5%, wait: 7d}
sources:
  - file: {path: /var/log/*.jsonl}
  - file:
      path: /b
)",
                                   &s);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(s.name, "web-1");
  EXPECT_TRUE(s.on);
  EXPECT_EQ(s.port, 8787);
  EXPECT_EQ(s.hosts, (std::vector<std::string>{"a.example:7443", "b.example:7443"}));
  EXPECT_EQ(s.bytes, uint64_t{8} << 30);
  EXPECT_EQ(s.share, 0.125);
  EXPECT_EQ(s.wait, absl::Hours(168));
  EXPECT_EQ(s.files, (std::vector<std::string>{"/var/log/*.jsonl", "/b"}));
}

TEST(Yaml, AbsentKeepsDefaults) {
  for (std::string_view text : {"", "# nothing\n", "{}", "spool:\nsources:\nhosts:\n"}) {
    Settings s;
    ASSERT_TRUE(Read(text, &s).ok()) << text;
    EXPECT_EQ(s.name, "unset");
    EXPECT_EQ(s.port, 1);
  }
}

TEST(Yaml, TextStaysAsWritten) {  // an account id is not an octal number
  Settings s;
  ASSERT_TRUE(Read("name: 011111111111\n", &s).ok());
  EXPECT_EQ(s.name, "011111111111");
  ASSERT_TRUE(Read("name: \"\"\n", &s).ok());
  EXPECT_EQ(s.name, "");
}

TEST(Yaml, MistakesNameFileLineKeyAndWhatWasExpected) {
  struct Case {
    std::string_view text, message;
  };
  const Case cases[] = {
      {"name: [a]\n", "a.yaml:1: name: expected text, not a list"},
      {"\nname:\n", "a.yaml:2: name: expected text, not nothing"},
      {"on: yes\n", "a.yaml:1: on: expected true or false, not \"yes\""},
      {"port: 70000\n", "a.yaml:1: port: expected a whole number from 1 to 65535, not \"70000\""},
      {"port: 0x10\n", "a.yaml:1: port: expected a whole number from 1 to 65535, not \"0x10\""},
      {"port: 99999999999999999999\n", "a.yaml:1: port: expected a whole number from 1 to 65535, not \"99999999999999999999\""},
      {"port: \"8\"\n", "a.yaml:1: port: expected a whole number from 1 to 65535, not \"8\""},
      {"port: 7\n", "a.yaml:1: port: expected a port that is not 7, not \"7\""},
      {"port: []\n", "a.yaml:1: port: expected a whole number from 1 to 65535, not a list"},
      {"hosts: a\n", "a.yaml:1: hosts: expected a list of texts, such as [a, b], not \"a\""},
      {"hosts:\n- a\n- {b: c}\n", "a.yaml:3: hosts[1]: expected text, not a mapping"},
      {"spool: 3\n", "a.yaml:1: spool: expected a mapping (keys and values), not \"3\""},
      {"spool:\n  max_byte: 1\n", "a.yaml:2: spool.max_byte: unknown key (did you mean max_bytes?)"},
      {"spool:\n  max_bytes: 8GB\n", "a.yaml:2: spool.max_bytes: expected a size such as 8GiB, 64MiB or 4096, not \"8GB\""},
      {"spool: {max_bytes: 9999999TiB}\n",
       "a.yaml:1: spool.max_bytes: expected a size such as 8GiB, 64MiB or 4096, not \"9999999TiB\""},
      {"spool: {max_bytes: -1}\n", "a.yaml:1: spool.max_bytes: expected a size such as 8GiB, 64MiB or 4096, not \"-1\""},
      {"spool: {wait: 3}\n", "a.yaml:1: spool.wait: expected a duration such as 500ms, 30s, 15m, 24h or 7d, not \"3\""},
      {"spool: {min_free: 0.1}\n", "a.yaml:1: spool.min_free: expected a percentage from 0% to 100%, not \"0.1\""},
      {"spool: {min_free: 101%}\n", "a.yaml:1: spool.min_free: expected a percentage from 0% to 100%, not \"101%\""},
      {"zebra: 1\n", "a.yaml:1: zebra: unknown key (known here: hosts, name, on, port, sources, spool)"},
      {"nmae: x\n", "a.yaml:1: nmae: unknown key (did you mean name?)"},
      {"name: a\nname: b\n", "a.yaml:2: name: duplicate key (first on line 1)"},
      {"spool:\n  wait: 1s\n  wait: 2s\n", "a.yaml:3: spool.wait: duplicate key (first on line 2)"},
      {"sources: {file: {path: /a}}\n", "a.yaml:1: sources: expected a list (lines that begin with '- '), not a mapping"},
      {"sources:\n- /a\n", "a.yaml:2: sources[0]: expected a mapping (keys and values), not \"/a\""},
      {"sources:\n- file: {path: /a}\n- file: {paths: /a, path: /b}\n",
       "a.yaml:3: sources[1].file.paths: unknown key (did you mean path?)"},
      {"sources:\n- file: {}\n", "a.yaml:2: sources[0].file.path: expected an absolute path, but it is missing"},
      {"- a\n", "a.yaml:1: expected a mapping (keys and values) at the top of the file, not a list"},
      {"name: a\n---\nname: b\n", "a.yaml:2: a second document begins here: one file, one document"},
      {"name: &x a\n", "a.yaml:1: anchor &x: anchors and aliases are not supported, write the value out"},
      {"{[a]: b}\n", "a.yaml:1: a key must be a single word"},
  };
  for (const Case& c : cases) EXPECT_EQ(Mistakes(c.text), c.message) << c.text;
}

TEST(Yaml, AllMistakesAtOnceUnknownKeysFirst) {
  EXPECT_EQ(Mistakes("zzzzzzz: 1\nport: x\nspool:\n  wait: 1\non: 1\n"),
            "a.yaml:1: zzzzzzz: unknown key (known here: hosts, name, on, port, sources, spool)\n"
            "a.yaml:2: port: expected a whole number from 1 to 65535, not \"x\"\n"
            "a.yaml:4: spool.wait: expected a duration such as 500ms, 30s, 15m, 24h or 7d, not \"1\"\n"
            "a.yaml:5: on: expected true or false, not \"1\"");
  EXPECT_EQ(Mistakes("port: x\nsources:\n- file: {}\nzzzzzzz: 1\n"),
            "a.yaml:4: zzzzzzz: unknown key (known here: hosts, name, on, port, sources, spool)\n"
            "a.yaml:1: port: expected a whole number from 1 to 65535, not \"x\"\n"
            "a.yaml:3: sources[0].file.path: expected an absolute path, but it is missing");
}

TEST(Yaml, AKeyThatWasMistypedIsNotMissingToo) {
  EXPECT_EQ(Mistakes("sources:\n- file: {paht: /x}\n- file: {}\n"),
            "a.yaml:2: sources[0].file.paht: unknown key (did you mean path?)\n"
            "a.yaml:3: sources[1].file.path: expected an absolute path, but it is missing");
}

TEST(Yaml, NothingThrows) {
  const std::string deep(100'000, '[');
  const std::string wide = "name: " + std::string(2 << 20, 'x');
  for (std::string_view text : {std::string_view("a: [b\n"), std::string_view("a: b: c\n"), std::string_view("\tname: a\n"),
                                std::string_view("name: *x\n"), std::string_view("? \n"), std::string_view("a: \"unterminated\n"),
                                std::string_view("- - - -\n:"), std::string_view(deep), std::string_view(wide)}) {
    EXPECT_TRUE(Mistakes(text).starts_with("a.yaml:")) << text.substr(0, 40) << " -> " << Mistakes(text);
  }
  for (std::string_view empty : {"%TAG ! !\n", "\xff\xfe", "!!binary", "---\n...\n"}) EXPECT_EQ(Mistakes(empty), "ok") << empty;
}

}  // namespace
}  // namespace orgtrail
