// What `orgtrail` says of itself: its version, tab completion and the manual page, the latter two read off the definitions that print --help.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aggregator/client/context.h"
#include "common/daemon/manual.h"

namespace orgtrail::client {
namespace {

std::string Join(const std::vector<std::string>& words, std::string_view between = " ") {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : std::string(between)) + w;
  return out;
}

// For each command what may follow it: commands of its own, options of its own and of those above it. `names` gathers every command's.
void Cases(const CLI::App& app, const std::string& path, std::string* out, std::vector<std::string>* names) {
  std::vector<std::string> commands, options;
  for (const CLI::App* sub : app.get_subcommands({})) commands.push_back(sub->get_name());
  for (const CLI::App* at = &app; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (at == &app || name != "help") options.push_back("--" + name);
      }
    }
  }
  *out += "    \"" + path + "\") commands=\"" + Join(commands) + "\" options=\"" + Join(options) + "\" ;;\n";
  names->insert(names->end(), commands.begin(), commands.end());
  for (const CLI::App* sub : app.get_subcommands({})) Cases(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out, names);
}

// What may follow each option that takes a value: the choices it names ("TEXT:{table,json}"), else, empty, a file.
void Values(const CLI::App& app, std::map<std::string, std::vector<std::string>>* out) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0 || option->get_positional()) continue;
    const std::string type = option->get_type_name();
    const size_t open = type.find('{'), close = type.find('}');
    std::string choices = open == std::string::npos || close == std::string::npos ? "" : type.substr(open + 1, close - open - 1);
    std::replace(choices.begin(), choices.end(), ',', ' ');
    std::vector<std::string>& of = (*out)[choices];
    for (const std::string& name : option->get_lnames()) of.push_back("--" + name);
    for (const std::string& name : option->get_snames()) of.push_back("-" + name);
  }
  for (const CLI::App* sub : app.get_subcommands({})) Values(*sub, out);
}

// The part that both shells read: from `typed`, the words so far, `before`, the last of them, and `current` to `choices`; or to `file`.
std::string Choose(const CLI::App& app) {
  std::string cases;
  std::vector<std::string> names;
  Cases(app, "", &cases, &names);
  std::map<std::string, std::vector<std::string>> values;
  Values(app, &values);
  std::string out = "  local at=\"\" word=\"\" commands=\"\" options=\"\" choices=\"\" file=\"\"\n  for word in \"${typed[@]}\"; do\n    case \" " + Join(names) +
                    " \" in *\" $word \"*) at=\"${at:+$at }$word\" ;; esac\n  done\n  case \"$before\" in\n";
  for (const auto& [choices, options] : values) out += "    " + Join(options, "|") + ") " + (choices.empty() ? "file=1" : "choices=\"" + choices + "\"") + " ;;\n";
  return out + "  esac\n  case \"$at\" in\n" + cases +
         "  esac\n  if [ -z \"$choices$file\" ]; then\n    case \"$current\" in -*) choices=\"$options\" ;; *) choices=\"$commands\" ;; esac\n  fi\n";
}

std::string BashCompletion(const CLI::App& app) {
  return "# bash completion for orgtrail: source <(orgtrail completion bash)\n_orgtrail() {\n"
         "  local current=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" typed=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n" +
         Choose(app) + "  COMPREPLY=($(compgen -W \"$choices\" -- \"$current\"))   # none: a file, by -o default\n}\ncomplete -o default -F _orgtrail orgtrail\n";
}

std::string ZshCompletion(const CLI::App& app) {
  return "#compdef orgtrail\n# zsh completion for orgtrail: source <(orgtrail completion zsh), or as the file _orgtrail in a directory of $fpath\n_orgtrail() {\n"
         "  local current=\"$PREFIX\" before=\"${words[CURRENT-1]}\" typed=(\"${(@)words[2,CURRENT-1]}\")\n" +
         Choose(app) +
         "  if [ -n \"$choices\" ]; then compadd -- ${=choices}; else _files; fi\n}\n"
         "if [ \"${funcstack[1]}\" = _orgtrail ]; then\n  _orgtrail\nelse\n"
         "  (( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }\n  compdef _orgtrail orgtrail\nfi\n";
}

std::string ManPage(const CLI::App& app) {
  ManualPage page;
  page.program = "orgtrail";
  page.summary = "the command line of an organization's audit trail";
  page.synopsis = "[options] command …";
  page.end = ".SH EXIT STATUS\n0 fine, 1 failed, 2 bad usage or configuration. verify and fsck: 0 proven, 2 tampered, 3 incomplete, 5 trust not "
             "configured, 64 bad usage.\n.SH ENVIRONMENT\n.TP\n.B ORGTRAIL_PROFILE\nThe profile to use: a file, or a name under ~/.config/orgtrail.\n"
             ".TP\n.B NO_COLOR\nNo colours.\n";
  return page.Text(app);
}

}  // namespace

void AddHelp(CLI::App& app) {
  app.add_subcommand("version", "The version of this program")->callback([] { std::printf("orgtrail %s\n", ORGTRAIL_VERSION); });
  auto shell = std::make_shared<std::string>();
  CLI::App* completion = app.add_subcommand("completion", "Tab completion: source <(orgtrail completion bash)");
  completion->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  completion->callback([shell, &app] {
    std::fputs((*shell == "bash" ? BashCompletion(app) : ZshCompletion(app)).c_str(), stdout);
  });
  CLI::App* man = app.add_subcommand("man", "The manual page, in roff: orgtrail man | man -l -");
  man->callback([&app] {
    std::fputs(ManPage(app).c_str(), stdout);
  });
}

}  // namespace orgtrail::client
