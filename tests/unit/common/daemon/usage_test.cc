#include "common/daemon/usage.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <sstream>

namespace orgtrail {
namespace {

// What is said of a command line, with a program like ours.
std::string Said(const std::string& line) {
  CLI::App app("orgtrail: who did what.", "orgtrail");
  app.require_subcommand(1);
  app.fallthrough();
  std::string text, dir, org;
  std::vector<std::string> many;
  int number = 0;
  bool flag = false;
  app.add_option("--profile", text, "Where the server is");
  app.add_option("-o", text, "Output")->check(CLI::IsMember({"table", "json"}));
  CLI::App* events = app.add_subcommand("events", "Look records up");
  events->require_subcommand(1);
  CLI::App* lookup = events->add_subcommand("lookup", "Records that match");
  lookup->add_option("--account", text, "In this account");
  lookup->add_option("--start", text, "From");
  lookup->add_option("--max", number, "At most");
  lookup->add_flag("--writes", flag, "Only writes");
  events->add_subcommand("show", "One record")->add_option("event-id", text, "Which")->required();
  CLI::App* org_app = app.add_subcommand("org", "The organization");
  org_app->require_subcommand(1);
  CLI::App* init = org_app->add_subcommand("init", "Make one");
  init->add_option("--dir", dir, "Where")->required();
  init->add_option("--org-id", org, "Its id")->required();
  app.add_subcommand("status", "One screen");

  std::vector<std::string> words = {"orgtrail"};
  std::istringstream in(line);
  for (std::string word; in >> word;) words.push_back(word);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  try {
    app.parse(static_cast<int>(argv.size()), argv.data());
  } catch (const CLI::ParseError& e) {
    return ExplainUsage(app, static_cast<int>(argv.size()), argv.data(), e);
  }
  return "";
}

TEST(Usage, NamesWhatIsWrongAndWhatWasMeant) {
  const std::pair<const char*, const char*> cases[] = {
      {"evnts lookup", "orgtrail: no command evnts; did you mean events?\n`orgtrail --help` says more.\n"},
      {"events lokup", "orgtrail events: no command lokup; did you mean lookup?\n`orgtrail events --help` says more.\n"},
      {"--profile status events shwo", "orgtrail events: no command shwo; did you mean show?\n`orgtrail events --help` says more.\n"},
      {"events lookup --acount 1", "orgtrail events lookup: no option --acount; did you mean --account?\n`orgtrail events lookup --help` says more.\n"},
      {"events lookup --acc=1", "orgtrail events lookup: no option --acc; did you mean --account?\n`orgtrail events lookup --help` says more.\n"},
      {"events lookup --prfile x", "orgtrail events lookup: no option --prfile; did you mean --profile?\n`orgtrail events lookup --help` says more.\n"},
      {"events lookup --nonsense", "orgtrail events lookup: no option --nonsense\n`orgtrail events lookup --help` says more.\n"},
      {"status -x", "orgtrail status: no option -x\n`orgtrail status --help` says more.\n"},
      {"events lookup --start -2h --mx 3", "orgtrail events lookup: no option --mx; did you mean --max?\n`orgtrail events lookup --help` says more.\n"},
      {"events lookup --max many", "orgtrail events lookup: --max many: not a number, or one that is too large\n`orgtrail events lookup --help` says more.\n"},
      {"events show", "orgtrail events show: event-id is required\n`orgtrail events show --help` says more.\n"},
      {"org init", "orgtrail org init: --dir and --org-id are required\n`orgtrail org init --help` says more.\n"},
      {"org init --dir x", "orgtrail org init: --org-id is required\n`orgtrail org init --help` says more.\n"},
      {"status more", "orgtrail status: one word too many: more\n`orgtrail status --help` says more.\n"},
      {"-o xml status", "orgtrail status: -o: xml not in {table,json}\n`orgtrail status --help` says more.\n"},
      {"events \x1b[31m", "orgtrail events: no command \\x1b[31m; there are\n  lookup  Records that match\n  show    One record\n`orgtrail events --help` says more.\n"},
      {"status", ""},
      {"events lookup --writes --account 1 -o json", ""},
  };
  for (const auto& [line, said] : cases) EXPECT_EQ(Said(line), said) << line;
}

TEST(Usage, AGroupListsItsCommands) {
  EXPECT_EQ(Said("events"),
            "orgtrail events: Look records up\nIt needs a command:\n  lookup  Records that match\n  show    One record\n"
            "`orgtrail events COMMAND --help` says more.\n");
  EXPECT_EQ(Said("-o json org"), "orgtrail org: The organization\nIt needs a command:\n  init  Make one\n`orgtrail org COMMAND --help` says more.\n");
  EXPECT_NE(Said("").find("\n  events  Look records up\n  org     The organization\n  status  One screen\n"), std::string::npos) << Said("");
}

}  // namespace
}  // namespace orgtrail
