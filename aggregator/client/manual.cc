// Tab completion and the manual page, read off the same definitions that print --help.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "aggregator/client/context.h"
#include "common/daemon/manual.h"

namespace orgtrail::client {
namespace {

std::vector<std::string> Words(const CLI::App& app) {
  std::vector<std::string> words;
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (!sub->get_name().empty()) words.push_back(sub->get_name());
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  return words;
}

std::string Join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : " ") + w;
  return out;
}

void BashCases(const CLI::App& app, const std::string& path, std::string* out) {
  *out += "    \"" + path + "\") words=\"" + Join(Words(app)) + "\" ;;\n";
  for (const CLI::App* sub : app.get_subcommands({})) BashCases(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
}

// What may follow each option that takes a value: the choices it names ("TEXT:{table,json}"), else a file.
void Values(const CLI::App& app, std::map<std::string, std::string>* out) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_max() == 0 || option->get_positional()) continue;
    const std::string type = option->get_type_name();
    const size_t open = type.find('{'), close = type.find('}');
    std::string choices = open == std::string::npos || close == std::string::npos ? "" : type.substr(open + 1, close - open - 1);
    std::replace(choices.begin(), choices.end(), ',', ' ');
    for (const std::string& name : option->get_lnames()) out->emplace("--" + name, choices);
    for (const std::string& name : option->get_snames()) out->emplace("-" + name, choices);
  }
  for (const CLI::App* sub : app.get_subcommands({})) Values(*sub, out);
}

void Names(const CLI::App& app, std::vector<std::string>* names) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    names->push_back(sub->get_name());
    Names(*sub, names);
  }
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  std::vector<std::string> names;
  Names(app, &names);
  std::string out = "# bash completion for orgtrail: source <(orgtrail completion bash)\n_orgtrail() {\n";
  out += "  local current=\"${COMP_WORDS[COMP_CWORD]}\" path=\"\" word words i\n";
  out += "  for ((i = 1; i < COMP_CWORD; ++i)); do\n    word=\"${COMP_WORDS[i]}\"\n    case \" " + Join(names) +
         " \" in *\" $word \"*) path=\"${path:+$path }$word\" ;; esac\n  done\n";
  std::map<std::string, std::string> values;
  Values(app, &values);
  out += "  case \"${COMP_WORDS[COMP_CWORD-1]}\" in\n";
  for (const auto& [name, choices] : values) {
    out += "    " + name + ") COMPREPLY=($(compgen " + (choices.empty() ? "-f" : "-W \"" + choices + "\"") + " -- \"$current\")); return ;;\n";
  }
  out += "  esac\n";
  out += "  case \"$path\" in\n";
  BashCases(app, "", &out);
  out += "    *) words=\"\" ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- \"$current\"))\n}\ncomplete -F _orgtrail orgtrail\n";
  return out;
}

std::string ZshCompletion(const CLI::App& app) {
  return "#compdef orgtrail\n# zsh completion for orgtrail: source <(orgtrail completion zsh)\nautoload -U +X bashcompinit && bashcompinit\n" +
         BashCompletion(app);
}

std::string ManPage(const CLI::App& app, std::string_view program, std::string_view summary) {
  ManualPage page;
  page.program = program;
  page.summary = summary;
  page.synopsis = "[options] command …";
  page.end = ".SH EXIT STATUS\n0 fine, 1 failed, 2 bad usage or configuration. verify and fsck: 0 proven, 2 tampered, 3 incomplete, 4 stale, 5 trust not "
             "configured, 64 bad usage.\n.SH ENVIRONMENT\n.TP\n.B ORGTRAIL_PROFILE\nThe profile to use: a file, or a name under ~/.config/orgtrail.\n"
             ".TP\n.B NO_COLOR\nNo colours.\n";
  return page.Text(app);
}

}  // namespace orgtrail::client
