// orgtrail: the command line every person uses.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "aggregator/client/context.h"
#include "common/base/last_words.h"
#include "common/base/log.h"
#include "common/base/text.h"

namespace {

// verify and fsck keep 2 for "tampered", wherever global flags stand.
int UsageCode(const CLI::App& app) {
  return app.got_subcommand("verify") || app.got_subcommand("fsck") || app.got_subcommand("repair") ? orgtrail::client::kVerifyUsage : orgtrail::client::kUsage;
}

// "events: no command lookp; there are lookup, show". Empty when every word that should be a command is one.
std::string UnknownCommand(CLI::App& app, int argc, char** argv) {
  CLI::App* at = &app;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with('-') || (i > 1 && argv[i - 1][0] == '-')) continue;  // options, and what may be their values
    if (at->get_require_subcommand_min() == 0) return "";
    CLI::App* next = nullptr;
    std::string known;
    for (CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; })) {
      known += (known.empty() ? "" : ", ") + sub->get_name();
      if (sub->get_name() == word) next = sub;
    }
    if (next == nullptr) return path + "no command " + word + "; there are " + known;
    at = next;
    path += word + ": ";
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace orgtrail;
  using namespace orgtrail::client;
  SetLog(LogFormat::kHuman, LogLevel::kWarn);
  NameFilesThatFail();
  CLI::App app("orgtrail: who did what, when, from where, in every account; and the proof of it.", "orgtrail");
  Context context;
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  app.add_option("--profile", context.profile, "Where the server is and who you are: a file, or a name under ~/.config/orgtrail");
  app.add_option("--server", context.server, "HOST:PORT of the aggregator, over the profile's");
  app.add_option("--ca", context.ca, "CA certificate, over the profile's");
  app.add_option("--certificate", context.certificate, "Your certificate, over the profile's");
  app.add_option("--key", context.key, "Its key, over the profile's");
  app.add_option("-o", context.output_flag, "table (on a terminal), json (one document), jsonl (one object a line)")
      ->check(CLI::IsMember({"table", "json", "jsonl"}));
  app.add_flag("--no-color", context.no_color, "No colours; NO_COLOR does the same");
  app.set_version_flag("--version", std::string("orgtrail ") + ORGTRAIL_VERSION);
  AddStatus(app, context);
  AddEvents(app, context);
  AddFeed(app, context);
  AddProve(app, context);
  AddAlarms(app, context);
  AddAgents(app, context);
  AddPeople(app, context);
  AddOrg(app, context);
  AddRecord(app, context);
  AddStore(app, context);
  AddBackup(app, context);
  AddRetention(app, context);
  AddRepair(app, context);
  app.footer("\nFirst steps:\n  orgtrail org init --help      make an organization\n  orgtrail status               how it is\n"
             "  orgtrail events lookup        who did what\n  orgtrail prove ID | orgtrail verify proof --trust trust.policy\n");
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& e) {
    const std::string wrong = UnknownCommand(app, argc, argv);
    const std::vector<std::string> unknown = app.remaining(true);  // CLI11 misses the command before it looks at what stands in its place
    if (!wrong.empty()) {
      std::fprintf(stderr, "orgtrail: %s\n", Printable(wrong).c_str());
    } else if (!unknown.empty()) {
      std::fprintf(stderr, "orgtrail: no such option: %s\nRun with --help for more information.\n", Printable(unknown.front()).c_str());
    } else {
      app.exit(e);
    }
    return UsageCode(app);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    if (code == 0) return kOk;
    return UsageCode(app);
  }
  return context.exit_code;
}
