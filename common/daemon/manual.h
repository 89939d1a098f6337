// ManualPage: a manual page in roff, read off the definitions that print --help. For every program of ours.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace orgtrail {

struct ManualPage {
  int section = 1;                     // 1 commands, 8 daemons
  std::string program, summary;        // the page's first line: "orgtrail-agent - …"
  std::string synopsis;                // roff, behind the program's name
  std::string end;                     // roff, further sections
  std::string Text(const CLI::App& app) const;
};

}  // namespace orgtrail
