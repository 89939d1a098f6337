#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/http/client.h"

namespace orgtrail::client {

void AddRecord(CLI::App& app, Context& context) {
  struct Flags {
    std::string agent = "http://127.0.0.1:8787", token_file, key, text;
  };
  auto f = std::make_shared<Flags>();
  CLI::App* record = app.add_subcommand("record", "Send one record, or standard input (a record a line), to the local agent");
  record->add_option("record", f->text, "The record, JSON on one line; default: standard input");
  record->add_option("--agent", f->agent, "The agent's http source: http://HOST:PORT or unix:/path")->capture_default_str();
  record->add_option("--token-file", f->token_file, "Bearer token, when the agent asks for one");
  record->add_option("--idempotency-key", f->key, "Sending again with the same key stores nothing twice");
  record->footer("Exit 0 means fsynced at the agent; anything else means nothing of it was stored.\n\n"
                 "Example:\n  orgtrail record '{\"eventName\":\"BackupStarted\",\"eventSource\":\"backup.example\"}'\n");
  record->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      std::string body = f->text;
      if (body.empty()) {
        ASSIGN_OR_RETURN(body, ReadStandardInput());
      }
      if (body.empty()) return absl::InvalidArgumentError("nothing to send: give a record, or pipe some");
      if (body.back() != '\n') body += '\n';
      std::vector<std::pair<std::string, std::string>> headers{{"content-type", "application/x-ndjson"}};
      if (!f->key.empty()) headers.emplace_back("idempotency-key", f->key);
      if (!f->token_file.empty()) {
        ASSIGN_OR_RETURN(std::string token, ReadFile(context.fs, f->token_file, 4096));
        while (!token.empty() && (token.back() == '\n' || token.back() == ' ')) token.pop_back();
        headers.emplace_back("authorization", "Bearer " + token);
      }
      const std::string url = f->agent.starts_with("unix:") ? f->agent + ":/records" : f->agent + "/records";
      absl::StatusOr<HttpResponse> answer = HttpPost(url, body, headers, absl::Seconds(60));
      if (!answer.ok()) {
        return absl::Status(answer.status().code(), absl::StrCat(answer.status().message(), ": is the agent running, with an http source there (sources: in "
                                                                 "agent.yaml)? --agent names another"));
      }
      if (answer->status != 200) {
        return absl::UnavailableError(absl::StrCat("the agent answered ", answer->status, ": ", Printable(answer->body)));
      }
      std::printf("%s%s", answer->body.c_str(), answer->body.ends_with('\n') ? "" : "\n");
      if (answer->body.find("\"wrapped\":0") == std::string::npos && answer->body.find("\"wrapped\":") != std::string::npos) {
        std::fprintf(stderr, "orgtrail: a line that is no JSON object was kept whole, wrapped in one (docs/formats/record.md)\n");
      }
      return absl::OkStatus();
    });
  });
}

}  // namespace orgtrail::client
