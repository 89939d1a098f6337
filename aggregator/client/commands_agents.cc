#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "aggregator/client/table.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail::client {
namespace {

struct TokenFlags {
  std::string account, region, name, carries, ttl = "1h", cidr, out;
  uint32_t uses = 1;
};

absl::StatusOr<int64_t> ParseTtl(const std::string& text) {
  absl::Duration d;
  std::string t = text;
  if (!t.empty() && t.back() == 'd') {
    std::optional<uint64_t> days = ParseUint(std::string_view(t).substr(0, t.size() - 1));
    if (days && *days <= 365) return static_cast<int64_t>(*days) * 86'400;
  } else if (absl::ParseDuration(t, &d) && d > absl::ZeroDuration()) {
    return absl::ToInt64Seconds(d);
  }
  return absl::InvalidArgumentError("--ttl: a duration such as 1h, 30m or 7d");
}

std::string AgentJson(const pb::Agent& a) {
  std::string json = "{\"account\":" + JsonString(a.account()) + ",\"region\":" + JsonString(a.region()) + ",\"name\":" + JsonString(a.name());
  if (a.uuid().size() == 16) json += ",\"uuid\":" + JsonString(Uuid::FromBytes(a.uuid()).ToString());
  json += ",\"state\":" + JsonString(a.state());
  json += ",\"lastSeen\":" + (a.last_seen_ns() > 0 ? JsonString(Rfc3339(absl::FromUnixNanos(a.last_seen_ns()), 3)) : std::string("null"));
  json += ",\"lagSeconds\":" + std::to_string(static_cast<double>(a.lag_ns()) / 1e9);
  json += ",\"events\":" + std::to_string(a.events()) + ",\"lost\":" + std::to_string(a.lost());
  json += ",\"epochEvents\":" + std::to_string(a.epoch_events()) + ",\"epochLost\":" + std::to_string(a.epoch_lost());
  json += ",\"epoch\":" + std::to_string(a.epoch()) + ",\"batch\":" + std::to_string(a.batch_seq());
  json += ",\"uncleanEpochs\":" + std::to_string(a.unclean_epochs()) + ",\"policyVersion\":" + std::to_string(a.policy_version());
  json += ",\"carries\":" + JsonString(a.carries()) + ",\"version\":" + JsonString(a.version()) + ",\"address\":" + JsonString(a.address());
  json += ",\"clock\":" + JsonString(a.clock());
  json += ",\"certificateExpires\":" + (a.certificate_expires_ns() > 0 ? JsonString(Rfc3339(absl::FromUnixNanos(a.certificate_expires_ns()))) : std::string("null"));
  return json + "}";
}

std::string Painted(const Context& context, const std::string& state) {
  if (state == "live") return Paint(context.color(), "32", state);
  if (state == "silent" || state == "revoked" || state == "quarantined") return Paint(context.color(), "31", state);
  return state;
}

absl::Status Print(Context& context, const pb::ListAgentsResponse& answer, bool one) {
  if (context.output() != Output::kTable) {
    const bool document = context.output() == Output::kJson;
    if (document && !one) std::printf("[");
    for (int i = 0; i < answer.agents_size(); ++i) {
      std::printf("%s%s%s", document && i > 0 ? ",\n" : "", AgentJson(answer.agents(i)).c_str(), document ? "" : "\n");
    }
    std::printf("%s", document ? (one ? "\n" : "]\n") : "");
    return absl::OkStatus();
  }
  const int64_t now = context.clock.WallNanos();
  if (one) {
    for (const pb::Agent& a : answer.agents()) {
      std::printf("%s/%s/%s  %s\n", a.account().c_str(), a.region().c_str(), a.name().c_str(), Painted(context, a.state()).c_str());
      if (a.uuid().size() == 16) std::printf("  uuid         %s\n", Uuid::FromBytes(a.uuid()).ToString().c_str());
      if (a.last_seen_ns() > 0) std::printf("  last seen    %s ago, from %s\n", HumanAge(static_cast<double>(now - a.last_seen_ns()) / 1e9).c_str(), a.address().c_str());
      std::printf("  chain        epoch %llu, batch %llu; %llu unclean epochs\n", static_cast<unsigned long long>(a.epoch()),
                  static_cast<unsigned long long>(a.batch_seq()), static_cast<unsigned long long>(a.unclean_epochs()));
      std::printf("  events       %s, %s lost; in this epoch %s, %s lost\n", HumanCount(static_cast<double>(a.events())).c_str(), HumanCount(static_cast<double>(a.lost())).c_str(),
                  HumanCount(static_cast<double>(a.epoch_events())).c_str(), HumanCount(static_cast<double>(a.epoch_lost())).c_str());
      std::printf("  lag          %s from sealed to logged\n", HumanAge(static_cast<double>(a.lag_ns()) / 1e9).c_str());
      std::printf("  policy       version %llu\n", static_cast<unsigned long long>(a.policy_version()));
      if (!a.clock().empty()) std::printf("  clock        %s\n", a.clock().c_str());
      if (!a.carries().empty()) std::printf("  carries      %s\n", a.carries().c_str());
      if (a.certificate_expires_ns() > 0) std::printf("  certificate  until %s\n", Rfc3339(absl::FromUnixNanos(a.certificate_expires_ns())).c_str());
      if (!a.version().empty()) std::printf("  version      %s\n", a.version().c_str());
    }
    return absl::OkStatus();
  }
  std::vector<std::string> header = {"ACCOUNT", "REGION", "AGENT", "STATE", "LAST SEEN", "LAG", "EVENTS", "LOST", "EPOCH", "UNCLEAN", "POLICY"};
  if (context.wide()) header.insert(header.end(), {"EPOCH EVENTS", "EPOCH LOST", "BATCH", "VERSION", "ADDRESS", "UUID"});
  Table table(std::move(header));
  for (const pb::Agent& a : answer.agents()) {
    std::vector<std::string> row = {
        a.account(), a.region(), a.name(), a.state(), a.last_seen_ns() > 0 ? HumanAge(static_cast<double>(now - a.last_seen_ns()) / 1e9) + " ago" : "never",
        HumanAge(static_cast<double>(a.lag_ns()) / 1e9), HumanCount(static_cast<double>(a.events())), HumanCount(static_cast<double>(a.lost())),
        std::to_string(a.epoch()), std::to_string(a.unclean_epochs()), std::to_string(a.policy_version())};
    if (context.wide()) {
      row.insert(row.end(), {HumanCount(static_cast<double>(a.epoch_events())), HumanCount(static_cast<double>(a.epoch_lost())), std::to_string(a.batch_seq()),
                             a.version(), a.address(), a.uuid().size() == 16 ? Uuid::FromBytes(a.uuid()).ToString() : ""});
    }
    table.Add(std::move(row));
  }
  if (table.rows() == 0) std::printf("No agents yet. Make a join token: orgtrail agent token --account ID --region R\n");
  std::printf("%s", table.Text(context.color()).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddAgents(CLI::App& app, Context& context) {
  CLI::App* agent = app.add_subcommand("agent", "One agent: a token to join");
  agent->require_subcommand(1);
  auto f = std::make_shared<TokenFlags>();
  CLI::App* token = agent->add_subcommand("token", "Print a join token for an agent; single use and an hour unless asked otherwise");
  token->add_option("--account", f->account, "The account the agent captures, 12 digits")->required();
  token->add_option("--region", f->region, "The region it captures")->required();
  token->add_option("--name", f->name, "The agent's name; default: any");
  token->add_option("--uses", f->uses, "How many agents may join with it")->check(CLI::Range(1, 100000))->capture_default_str();
  token->add_option("--ttl", f->ttl, "How long it is good for: 30m, 1h, 7d")->capture_default_str();
  token->add_option("--cidr", f->cidr, "Only from these addresses, such as 10.1.0.0/16");
  token->add_option("--carries", f->carries, "Collectors: `any`, or account ids separated by commas, whose records it brings");
  token->add_option("--out", f->out, "Write it to this file (mode 0600) instead of printing it");
  token->footer("The token names the CA it trusts, so a wrong server learns nothing. Put it on the agent's host and name it in\n"
                "agent.yaml under enrol.token_file.\n\nExample:\n  orgtrail agent token --account 222222222222 --region eu-west-1 > join-token\n");
  token->callback([f, &context] {
    context.Run([&]() -> absl::Status {
      pb::CreateTokenRequest request;
      ASSIGN_OR_RETURN(int64_t ttl, ParseTtl(f->ttl));
      if (!IsAccountId(f->account)) return absl::InvalidArgumentError("--account: 12 digits, such as 222222222222");
      if (!IsName(f->region)) return absl::InvalidArgumentError("--region: a name such as eu-west-1");
      if (!f->name.empty() && !IsName(f->name)) return absl::InvalidArgumentError("--name: a-z, 0-9, '.', '_' and '-', at most 64");
      request.set_account(f->account);
      request.set_region(f->region);
      request.set_name(f->name);
      request.set_carries(f->carries);
      request.set_uses(f->uses);
      request.set_ttl_s(ttl);
      request.set_cidr(f->cidr);
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      ASSIGN_OR_RETURN(pb::CreateTokenResponse made, rpc->CreateToken(request));
      if (!f->out.empty()) {
        RETURN_IF_ERROR(WriteFileAtomically(context.fs, f->out, made.token() + "\n", 0600));
      } else {
        std::printf("%s\n", made.token().c_str());
      }
      std::fprintf(stderr, "token %s: good until %s, %u use%s\n", made.id().c_str(), Rfc3339(absl::FromUnixNanos(made.expires_ns())).c_str(),
                   f->uses, f->uses == 1 ? "" : "s");
      return absl::OkStatus();
    });
  });

  CLI::App* agents = app.add_subcommand("agents", "The fleet: live, silent, lag, loss, epochs, policy version");
  agents->require_subcommand(1);
  CLI::App* list = agents->add_subcommand("list", "Every agent, one a line; -o wide: its epoch, version and address too");
  list->callback([&context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      ASSIGN_OR_RETURN(pb::ListAgentsResponse answer, rpc->ListAgents({}));
      return Print(context, answer, false);
    });
  });
  auto name = std::make_shared<std::string>();
  auto reason = std::make_shared<std::string>();
  CLI::App* show = agents->add_subcommand("show", "One agent in full");
  show->add_option("name", *name, "NAME, ACCOUNT/REGION/NAME, or uuid")->required();
  show->callback([name, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      pb::ListAgentsRequest request;
      request.set_name(*name);
      ASSIGN_OR_RETURN(pb::ListAgentsResponse answer, rpc->ListAgents(request));
      if (answer.agents_size() == 0) return absl::NotFoundError("no agent " + *name + "; `orgtrail agents list` shows every one");
      return Print(context, answer, true);
    });
  });
  CLI::App* revoke = agents->add_subcommand("revoke", "End an agent's identity: its streams close within 5 seconds and it may not come back");
  revoke->add_option("name", *name, "NAME, ACCOUNT/REGION/NAME, or uuid")->required();
  revoke->add_option("--reason", *reason, "Why, for the record");
  revoke->callback([name, reason, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
      pb::RevokeAgentRequest request;
      request.set_name(*name);
      request.set_reason(*reason);
      RETURN_IF_ERROR(rpc->RevokeAgent(request));
      std::printf("revoked %s\n", name->c_str());
      return absl::OkStatus();
    });
  });
}

}  // namespace orgtrail::client
