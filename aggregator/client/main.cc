// orgtrail: the command line every person uses.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "aggregator/client/context.h"
#include "common/base/last_words.h"
#include "common/base/log.h"
#include "common/daemon/usage.h"

namespace {

// verify and fsck keep 2 for "tampered", wherever global flags stand.
int UsageCode(const CLI::App& app) {
  return app.got_subcommand("verify") || app.got_subcommand("fsck") || app.got_subcommand("repair") ? orgtrail::client::kVerifyUsage : orgtrail::client::kUsage;
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
  app.add_option("-o", context.output_flag, "table (on a terminal), wide (a table with more columns), json (one document), jsonl (one object a line)")
      ->check(CLI::IsMember({"table", "wide", "json", "jsonl"}));
  app.add_flag("--no-color", context.no_color, "No colours; NO_COLOR does the same");
  app.set_version_flag("--version", std::string("orgtrail ") + ORGTRAIL_VERSION);
  AddStatus(app, context);
  AddHelp(app);
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
  AddPolicy(app, context);
  AddRetention(app, context);
  AddRepair(app, context);
  app.footer("\nFirst steps:\n  orgtrail org init --help      make an organization\n  orgtrail status               how it is\n"
             "  orgtrail events lookup        who did what\n  orgtrail prove ID | orgtrail verify proof --trust trust.policy\n");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {   // --help and the like
      app.exit(e);
      return kOk;
    }
    std::fputs(ExplainUsage(app, argc, argv, e).c_str(), stderr);
    return UsageCode(app);
  }
  return context.exit_code;
}
