#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "aggregator/client/context.h"
#include "aggregator/client/governance.h"
#include "common/base/status.h"
#include "common/format/note_text.h"

namespace orgtrail::client {
namespace {

constexpr size_t kNoteBytes = 64 << 10;

absl::Status Sign(Context& context, const std::string& file, const GovernanceFlags& f) {
  ASSIGN_OR_RETURN(const std::string note, ReadFile(context.fs, file, kNoteBytes));
  ASSIGN_OR_RETURN(const GovernanceKeys keys, GovernanceKeys::OfPolicy(note));
  constexpr std::string_view kUnsigned = ".unsigned";
  const std::string path = file.ends_with(kUnsigned) ? file.substr(0, file.size() - kUnsigned.size()) + ".note" : file;
  ASSIGN_OR_RETURN(const GovernanceNote now, SignAsGovernance(context.fs, keys, f, keys.threshold, path, note));
  std::printf("%s: %zu of %u signatures\n", now.path.c_str(), now.signatures, keys.threshold);
  if (now.signatures < keys.threshold) AskForSignatures(now.path);
  return absl::OkStatus();
}

}  // namespace

void AddPolicy(CLI::App& app, Context& context) {
  CLI::App* policy = app.add_subcommand("policy", "What governance signs: the policy's signatures, and the bytes to sign");
  policy->require_subcommand(1);
  struct Flags {
    std::string file;
    GovernanceFlags governance;
  };
  auto f = std::make_shared<Flags>();
  CLI::App* sign = policy->add_subcommand("sign", "Add governance's signatures to a policy; with enough of them it takes its place");
  sign->add_option("file", f->file, "The policy, policy-1.unsigned as `org init` wrote it; with enough signatures it becomes policy-1.note")->required();
  AddSignatureFlags(sign, &f->governance);
  sign->footer("Examples:\n  orgtrail policy sign policy-1.unsigned --governance-key-file ann.key\n\n"
               "  orgtrail policy text policy-1.unsigned > text       # where the key is, or with a token's own tool:\n"
               "  openssl pkeyutl -sign -rawin -inkey ann.key -in text -out ann.sig\n"
               "  orgtrail policy sign policy-1.unsigned --signature ann.sig\n");
  sign->callback([f, &context] { context.Run([&] { return Sign(context, f->file, f->governance); }); });

  auto g = std::make_shared<std::string>();
  CLI::App* text = policy->add_subcommand("text", "Print the bytes that governance signs: of a policy, a retention order or a recovery declaration");
  text->add_option("file", *g, "The note: NAME.unsigned, or NAME.note")->required();
  text->callback([g, &context] {
    context.Run([&]() -> absl::Status {
      ASSIGN_OR_RETURN(const std::string note, ReadFile(context.fs, *g, kNoteBytes));
      std::fputs(std::string(NoteText(note)).c_str(), stdout);
      return absl::OkStatus();
    });
  });
}

}  // namespace orgtrail::client
