#include "common/daemon/manual.h"

#include <CLI/CLI.hpp>

namespace orgtrail {
namespace {

std::string Roff(std::string text) {
  std::string out;
  bool start = true;
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '-') {
      out += "\\-";
    } else if (start && (c == '.' || c == '\'')) {
      out += std::string("\\&") + c;
    } else {
      out += c;
    }
    start = c == '\n';
  }
  return out;
}

void ManOptions(const CLI::App& app, std::string* out) {
  for (const CLI::Option* option : app.get_options()) {
    std::string name = option->get_positional() ? option->get_name(true) : option->get_name(false, true);
    if (name == "--help,-h" || name == "-h,--help") continue;
    *out += ".TP\n.B " + Roff(name);
    if (option->get_items_expected_max() > 0 && !option->get_positional()) *out += " \\fI" + Roff(option->get_type_name()) + "\\fR";
    *out += "\n" + Roff(option->get_description());
    if (!option->get_default_str().empty()) *out += " (default: " + Roff(option->get_default_str()) + ")";
    *out += "\n";
  }
}

void ManCommands(const CLI::App& app, const std::string& path, std::string* out) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    const std::string name = path + " " + sub->get_name();
    if (sub->get_subcommands({}).empty() || !sub->get_options().empty()) {
      *out += ".SS " + Roff(name) + "\n" + Roff(sub->get_description()) + ".\n";
      ManOptions(*sub, out);
      if (!sub->get_footer().empty()) *out += ".PP\n.nf\n" + Roff(sub->get_footer()) + "\n.fi\n";
    }
    ManCommands(*sub, name, out);
  }
}

}  // namespace

std::string ManualPage::Text(const CLI::App& app) const {
  std::string out = ".TH " + program + " " + std::to_string(section) + " \"\" \"orgtrail " ORGTRAIL_VERSION "\"\n.SH NAME\n" + Roff(program) + " \\- " +
                    Roff(summary) + "\n.SH SYNOPSIS\n.B " + program + "\n" + synopsis + "\n.SH DESCRIPTION\n" + Roff(app.get_description()) +
                    "\n.SH OPTIONS\n";
  ManOptions(app, &out);
  if (!app.get_subcommands({}).empty()) {
    out += ".SH COMMANDS\n";
    ManCommands(app, program, &out);
  }
  if (!app.get_footer().empty()) out += ".SH NOTES\n.nf\n" + Roff(app.get_footer()) + "\n.fi\n";
  return out + end;
}

}  // namespace orgtrail
