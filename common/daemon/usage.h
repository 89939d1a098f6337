// Usage: what to tell somebody whose command line was not understood: the nearest command or option, or the commands there are. Read off
// the definitions that print --help, for every program of ours. Pure. Threads: any.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class ParseError;
}

namespace orgtrail {

// Lines for standard error, with a line end. `argv` is what app.parse() got, `wrong` what it threw.
std::string ExplainUsage(const CLI::App& app, int argc, const char* const* argv, const CLI::ParseError& wrong);

}  // namespace orgtrail
