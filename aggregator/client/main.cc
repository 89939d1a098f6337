// orgtrail: the command line every person uses.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "aggregator/client/context.h"
#include "common/base/log.h"
#include "common/base/text.h"

int main(int argc, char** argv) {
  using namespace orgtrail;
  using namespace orgtrail::client;
  SetLog(LogFormat::kHuman, LogLevel::kWarn);
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
  app.footer("\nFirst steps:\n  orgtrail org init --help      make an organization\n  orgtrail status               how it is\n"
             "  orgtrail events lookup        who did what\n  orgtrail prove ID | orgtrail verify proof --trust trust.policy\n");
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // CLI11 misses the command before it looks at what stands in its place.
    const std::vector<std::string> unknown = app.remaining(true);
    if (dynamic_cast<const CLI::RequiredError*>(&e) != nullptr && !unknown.empty()) {
      std::fprintf(stderr, "orgtrail: no such command or option here: %s\nRun with --help for more information.\n", Printable(unknown.front()).c_str());
    } else if (app.exit(e) == 0) {
      return kOk;
    }
    // verify and fsck keep 2 for "tampered".
    const bool verifies = app.got_subcommand("verify") || app.got_subcommand("fsck");
    return verifies ? kVerifyUsage : kUsage;
  }
  return context.exit_code;
}
