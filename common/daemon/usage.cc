#include "common/daemon/usage.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/base/nearest.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

std::vector<const CLI::App*> Commands(const CLI::App& app) { return app.get_subcommands(nullptr); }

std::string CommandList(const CLI::App& app) {
  size_t width = 0;
  for (const CLI::App* c : Commands(app)) width = std::max(width, c->get_name().size());
  std::string out;
  for (const CLI::App* c : Commands(app)) {
    out += "  " + c->get_name() + std::string(width + 2 - c->get_name().size(), ' ') + c->get_description() + "\n";
  }
  return out;
}

// Where the words of a command line lead.
struct Walk {
  const CLI::App* at;
  std::string path;                // "orgtrail events"
  std::string command, option;     // the first word that is no command, no option, where one should be
};

const CLI::Option* Find(const CLI::App* at, const std::string& name) {
  for (; at != nullptr; at = at->get_parent()) {
    if (const CLI::Option* o = at->get_option_no_throw(name)) return o;
  }
  return nullptr;
}

Walk Follow(const CLI::App& app, int argc, const char* const* argv) {
  Walk w{&app, app.get_name(), "", ""};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") break;
    if (word.size() > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')) {
      const bool is_long = word[1] == '-';
      const size_t eq = is_long ? word.find('=') : std::string::npos;
      const std::string name = is_long ? word.substr(0, eq) : word.substr(0, 2);
      const CLI::Option* o = Find(w.at, name);
      if (o == nullptr) {
        w.option = name;
        return w;
      }
      const bool attached = is_long ? eq != std::string::npos : word.size() > 2;
      if (o->get_items_expected_max() > 0 && !attached) ++i;   // its value
      continue;
    }
    const std::vector<const CLI::App*> commands = Commands(*w.at);
    const auto found = std::find_if(commands.begin(), commands.end(), [&](const CLI::App* c) { return c->get_name() == word; });
    if (found != commands.end()) {
      w.at = *found;
      w.path += " " + word;
    } else if (!commands.empty()) {
      w.command = word;
      return w;
    }
  }
  return w;
}

std::string OptionsMeant(const Walk& w) {
  std::vector<std::string> known;
  for (const CLI::App* a = w.at; a != nullptr; a = a->get_parent()) {
    for (const CLI::Option* o : a->get_options()) {
      for (const std::string& name : o->get_lnames()) known.push_back("--" + name);
    }
  }
  return Nearest(w.option, known);
}

// "--dir, --org-id and --region are required": all that is missing, not the first of it.
std::string Missing(const CLI::App& at) {
  std::vector<std::string> names;
  for (const CLI::Option* o : at.get_options()) {
    if (o->get_required() && o->count() == 0) names.push_back(o->get_positional() ? o->get_name(true) : o->get_name());
  }
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return out.empty() ? out : out + (names.size() == 1 ? " is required" : " are required");
}

// What the parser says, in our words where its own need a reader who knows it.
std::string Reworded(std::string text) {
  constexpr std::string_view kConvert = "Could not convert: ", kOne = "The following argument was not expected: ",
                             kMany = "The following arguments were not expected: ";
  if (text.starts_with(kConvert)) {
    text.erase(0, kConvert.size());
    if (const size_t is = text.find(" = "); is != std::string::npos) text = text.substr(0, is) + " " + text.substr(is + 3);
    return text + ": not a number, or one that is too large";
  }
  if (text.starts_with(kOne)) return "one word too many: " + text.substr(kOne.size());
  if (text.starts_with(kMany)) return "words too many: " + text.substr(kMany.size());
  return text;
}

}  // namespace

std::string ExplainUsage(const CLI::App& app, int argc, const char* const* argv, const CLI::ParseError& wrong) {
  const Walk w = Follow(app, argc, argv);
  const std::string help = "`" + w.path + " --help` says more.\n";
  if (!w.option.empty()) {
    const std::string meant = OptionsMeant(w);
    return w.path + ": no option " + Printable(w.option) + (meant.empty() ? "" : "; did you mean " + meant + "?") + "\n" + help;
  }
  if (!w.command.empty()) {
    std::vector<std::string> known;
    for (const CLI::App* c : Commands(*w.at)) known.push_back(c->get_name());
    const std::string meant = Nearest(w.command, known);
    return w.path + ": no command " + Printable(w.command) + (meant.empty() ? "; there are\n" + CommandList(*w.at) : "; did you mean " + meant + "?\n") + help;
  }
  if (!Commands(*w.at).empty() && w.at->get_require_subcommand_min() > 0) {
    return w.path + ": " + w.at->get_description() + "\nIt needs a command:\n" + CommandList(*w.at) + "`" + w.path + " COMMAND --help` says more.\n";
  }
  std::string why = dynamic_cast<const CLI::RequiredError*>(&wrong) == nullptr ? "" : Missing(*w.at);
  if (why.empty()) why = Printable(Reworded(wrong.what()));
  return w.path + ": " + why + "\n" + help;
}

}  // namespace orgtrail
