// The built program: exit codes, and where it says what.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>

#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/digest.h"
#include "common/crypto/sign.h"
#include "common/format/recovery.h"
#include "common/fs/file.h"
#include "tests/support/sealed_log.h"
#include "tests/support/temp_dir.h"

namespace orgtrail {
namespace {

struct Ended {
  int code = -1;
  std::string out, err;
};

class ProgramTest : public ::testing::Test {
 protected:
  // In an empty home, without a profile.
  Ended Run(const std::string& arguments) {
    const std::string command = "env -u ORGTRAIL_PROFILE -u XDG_CONFIG_HOME HOME=" + dir_.path() + " " ORGTRAIL_BIN_DIR "/orgtrail " + arguments + " > " +
                                (dir_ / "out") + " 2> " + (dir_ / "err") + " < /dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, *ReadFile(PosixFs(), dir_ / "out"), *ReadFile(PosixFs(), dir_ / "err")};
  }
  std::string Put(const std::string& name, const std::string& text) {
    CHECK_OK(WriteFileAtomically(PosixFs(), dir_ / name, text));
    return dir_ / name;
  }
  TempDir dir_;
};

TEST_F(ProgramTest, Usage) {
  struct Case {
    const char* arguments;
    int code;
    const char* says;   // on standard error, or output when the code is 0
  };
  for (const Case& c : {
           Case{"", 2, "It needs a command"},
           {"--bad", 2, "--bad"},
           {"status --bad", 2, "--bad"},
           {"no-such-command", 2, "no-such-command"},
           {"-o xml status", 2, "xml"},
           {"verify --bad", 64, "--bad"},
           {"verify", 64, "\n  ledger "},
           {"events", 2, "\n  lookup "},
           {"events lokup", 2, "did you mean lookup?"},
           {"verify ledgr", 64, "did you mean ledger?"},
           {"events lookup --ip 10.0.0", 2, "10.0.0.0/8"},
           {"events lookup -a EventNam=x", 2, "did you mean EventName?"},
           {"feed --from yesterdayy", 2, "--from yesterdayy"},
           {"verify no-such", 64, "no-such"},
           {"--no-color verify proof --bad", 64, "--bad"},
           {"--profile /x verify ledger --bad", 64, "--bad"},
           {"fsck", 64, "dir"},
           {"-o json fsck --bad x", 64, "--bad"},
           {"status", 1, "orgtrail org init"},
           {"events lookup", 1, "--profile"},
           {"--profile missing status", 1, "missing.yaml"},
           {"verify proof /dev/null", 5, "--trust"},
           {"--profile /no/such.yaml verify proof /dev/null", 5, "/no/such.yaml"},
           {"verify proof /dev/null --trust /no/such", 5, "/no/such"},
           {"verify ledger", 5, "--trust"},
           {"inspect /no/such", 1, "/no/such"},
           {"--help", 0, "First steps"},
           {"--version", 0, "orgtrail 0."},
           {"version", 0, "orgtrail 0."},
           {"verify --help", 0, "proof"},
           {"org init --dir x --org-id BAD! --management-account 111111111111 --region us-east-1", 2, "--org-id"},
       }) {
    const Ended e = Run(c.arguments);
    EXPECT_EQ(e.code, c.code) << c.arguments << "\n" << e.out << e.err;
    EXPECT_NE((c.code == 0 ? e.out : e.err).find(c.says), std::string::npos) << c.arguments << "\n" << e.out << e.err;
  }
}

TEST_F(ProgramTest, ProofsProvenAndTampered) {
  SealedLog log;
  log.Add("{\"eventName\":\"A\"}");
  log.Add("{\"eventName\":\"B\"}");
  log.Close();
  const std::string trust = " --trust " + Put("trust", log.trust().Encode());
  EventProof proof = log.Prove(1, 1);
  const std::string good = Put("proof", proof.Encode());
  Ended e = Run("verify proof " + good + trust);
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_NE(e.out.find("PROVEN"), std::string::npos);
  EXPECT_EQ(e.out.find('\x1b'), std::string::npos);   // not a terminal
  e = Run("-o json verify proof " + good + trust);
  EXPECT_TRUE(e.out.starts_with("{\"proven\":true")) << e.out;
  EXPECT_EQ(Run("verify proof " + good + trust + " --record " + Put("record", "{\"eventName\":\"B\"}\n")).code, 0);
  EXPECT_EQ(Run("verify proof " + good + trust + " --record " + Put("other", "{\"eventName\":\"A\"}")).code, 2);
  e = Run("verify proof " + good + trust + " --record /no/such");
  EXPECT_EQ(e.code, 1) << e.err;                      // nothing was found tampered
  EXPECT_EQ(Run("verify proof /no/such" + trust).code, 1);
  proof.body = "{\"eventName\":\"C\"}";
  e = Run("verify proof " + Put("bad", proof.Encode()) + trust);
  EXPECT_EQ(e.code, 2);
  EXPECT_NE(e.err.find("NOT PROVEN"), std::string::npos) << e.err;
  EXPECT_EQ(Run("verify proof " + Put("garbage", "garbage") + trust).code, 2);
  SealedLog other("another log");
  EXPECT_NE(Run("verify proof " + good + " --trust " + Put("t2", other.trust().Encode())).code, 0);
}

TEST_F(ProgramTest, AnOrganizationOnce) {
  const std::string init = "org init --dir " + (dir_ / "org") + " --org-id o-demo --management-account 111111111111 --region us-east-1";
  Ended e = Run(init);
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_NE(e.out.find("orgtrail-aggregator --config " + (dir_ / "org")), std::string::npos);
  e = Run(init);
  EXPECT_EQ(e.code, 1);
  EXPECT_NE(e.err.find("already holds an organization"), std::string::npos);
  // A profile that is there and a server that is not.
  e = Run("--profile " + (dir_ / "org") + "/profiles/admin.yaml --server 127.0.0.1:1 status");
  EXPECT_EQ(e.code, 1);
  EXPECT_NE(e.err.find("127.0.0.1:1"), std::string::npos) << e.err;
  e = Run("inspect " + (dir_ / "org") + "/ca/ca.crt");
  EXPECT_EQ(e.code, 0);
  EXPECT_NE(e.out.find("certificate of a CA"), std::string::npos);
}

// Two of three must sign: one key is at hand, one signs elsewhere.
TEST_F(ProgramTest, GovernanceSignsTheFirstPolicy) {
  std::vector<SigningKey> keys;
  std::string init = "org init --dir " + (dir_ / "org") + " --org-id o-demo --management-account 111111111111 --region us-east-1 --threshold 2 --weaken-threshold 3";
  for (const char* name : {"ann", "bob", "eve"}) {
    keys.push_back(SigningKey::FromSeed(Sha256(name).view()));
    init += std::string(" --governance-key ") + name + "=" + Put(std::string(name) + ".pub", PublicKeyToPem(keys.back().public_key()));
  }
  ASSERT_EQ(Run(init).code, 0);
  const std::string unsigned_note = dir_ / "org/policy/policy-1.unsigned", note = dir_ / "org/policy/policy-1.note";
  const std::string text = Run("policy text " + unsigned_note).out;
  EXPECT_EQ(text, *ReadFile(PosixFs(), unsigned_note));
  const std::string sign = "policy sign " + unsigned_note;
  Ended e = Run(sign + " --governance-key-file " + Put("ann.key", keys[0].ToPem()));
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_NE(e.out.find(unsigned_note + ": 1 of 2 signatures"), std::string::npos) << e.out;
  EXPECT_FALSE(PosixFs().Facts(note).ok());
  EXPECT_EQ(Run("policy text " + unsigned_note).out, text);   // what the second signs
  e = Run(sign + " --governance-key-file " + (dir_ / "ann.key"));
  EXPECT_NE(e.out.find("1 of 2 signatures"), std::string::npos) << e.out;   // nobody counts twice
  const std::string before = *ReadFile(PosixFs(), unsigned_note);
  const Signature of_another_text = keys[1].Sign("", text + "weaken-delay 0\n");
  struct Case {
    std::string flag;
    int code;
  };
  for (const Case& c : {Case{" --signature " + Put("wrong.sig", std::string(View(of_another_text))), 1}, {" --signature " + Put("short.sig", "abc"), 2},
                        {" --governance-key-file " + Put("mallory.key", SigningKey::FromSeed(Sha256("mallory").view()).ToPem()), 1},
                        {" --signature /no/such", 1}}) {
    EXPECT_EQ(Run(sign + c.flag).code, c.code) << c.flag;
    EXPECT_EQ(*ReadFile(PosixFs(), unsigned_note), before) << c.flag;
  }
  e = Run(sign + " --signature " + Put("bob.sig", Base64(View(keys[1].Sign("", text))) + "\n"));
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_NE(e.out.find(note + ": 2 of 2 signatures"), std::string::npos) << e.out;
  EXPECT_FALSE(PosixFs().Facts(unsigned_note).ok());
  const std::string signed_note = *ReadFile(PosixFs(), note);
  EXPECT_EQ(ValidSignatures(signed_note, *GovernanceKeys::OfPolicy(text)), 2u);
  EXPECT_EQ(Run("policy sign " + note + " --signature " + Put("eve.sig", std::string(View(keys[2].Sign("", text))))).code, 0);   // a third
  EXPECT_EQ(ValidSignatures(*ReadFile(PosixFs(), note), *GovernanceKeys::OfPolicy(text)), 3u);
  EXPECT_EQ(Run("policy sign " + Put("garbage", "garbage") + " --signature " + (dir_ / "bob.sig")).code, 1);
}

// Every command `--help` knows is completed and has its part of the manual.
TEST_F(ProgramTest, CompletionAndManualKnowEveryCommand) {
  const std::string bash = Run("completion bash").out, zsh = Run("completion zsh").out, man = Run("man").out;
  EXPECT_TRUE(zsh.starts_with("#compdef orgtrail\n"));
  std::vector<std::string> paths{""};
  size_t leaves = 0;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string help = Run(paths[i] + " --help").out;
    const size_t at = help.find("Subcommands:\n");
    if (at == std::string::npos) {
      ++leaves;
      EXPECT_NE(man.find(".SS orgtrail" + paths[i] + "\n"), std::string::npos) << paths[i];
      continue;
    }
    for (size_t line = help.find('\n', at) + 1; help.substr(line, 2) == "  "; line = help.find('\n', line) + 1) {
      const std::string name = help.substr(line + 2, help.find_first_of(" \n", line + 2) - line - 2);
      if (name.empty()) continue;
      paths.push_back(paths[i] + " " + name);
      const std::string words = "\"" + (paths[i].empty() ? "" : paths[i].substr(1)) + "\") commands=\"";
      for (const std::string& script : {bash, zsh}) {
        const size_t from = script.find(words);
        ASSERT_NE(from, std::string::npos) << words;
        const std::string offered = " " + script.substr(from + words.size(), script.find('"', from + words.size()) - from - words.size()) + " ";
        EXPECT_NE(offered.find(" " + name + " "), std::string::npos) << paths[i] << ": " << name;
      }
    }
    ASSERT_LT(paths.size(), 200u);
  }
  EXPECT_GT(leaves, 15u);
  struct Case {
    const char* typed;     // the last word is the one to complete
    const char* offered;   // empty: a file
  };
  for (const Case& c : {Case{"events loo", "lookup"}, {"events lookup --acco", "--account"}, {"events lookup --prof", "--profile"}, {"-o wid", "wide"},
                        {"--profile st", ""}, {"inspect st", ""}, {"--profile x stat", "status"}}) {
    const std::string typed = std::string("COMP_WORDS=(orgtrail ") + c.typed + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _orgtrail; echo \"${COMPREPLY[@]}\"\n";
    Put("completion.sh", bash + typed);
    ASSERT_EQ(std::system(("bash " + (dir_ / "completion.sh") + " > " + (dir_ / "offered") + " 2>&1").c_str()), 0);
    EXPECT_EQ(*ReadFile(PosixFs(), dir_ / "offered"), std::string(c.offered) + "\n") << c.typed;
  }
}

TEST_F(ProgramTest, TheManualIsWellFormed) {
  Put("orgtrail.1", Run("man").out);
  if (std::system("groff -Tutf8 -man /dev/null > /dev/null 2>&1") != 0) return;   // no formatter here
  ASSERT_EQ(std::system(("groff -Kutf8 -Tutf8 -man -ww -z " + (dir_ / "orgtrail.1") + " > " + (dir_ / "warnings") + " 2>&1").c_str()), 0);
  EXPECT_EQ(*ReadFile(PosixFs(), dir_ / "warnings"), "");
}

}  // namespace
}  // namespace orgtrail
