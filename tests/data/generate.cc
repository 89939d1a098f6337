// orgtrail-generate: records for tests, benchmarks and the quickstart, as NDJSON. Same options and start, same bytes.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "tests/data/incident.h"
#include "tests/data/record_maker.h"

namespace {

using namespace orgtrail;        // NOLINT: a program of one file
using namespace orgtrail::data;  // NOLINT

struct Options {
  uint64_t records = 1000, seed = 1, size = 0;
  std::vector<std::string> accounts{"111111111111", "222222222222", "333333333333"}, regions{"us-east-1", "eu-west-1"}, places;
  std::string start, split;
  double rate = 10, pace = 0;
  bool incident = false;
};

// Lines to standard output, or appended to DIR/ACCOUNT-REGION.jsonl each.
class Out {
 public:
  explicit Out(std::string dir) : dir_(std::move(dir)) {}
  bool Write(const Place& place, const std::string& record) {
    std::FILE* file = dir_.empty() ? stdout : Of(place);
    return file != nullptr && std::fwrite(record.data(), 1, record.size(), file) == record.size() && std::fputc('\n', file) != EOF;
  }
  bool Flush() {
    bool ok = std::fflush(stdout) == 0;
    for (auto& [name, file] : files_) ok = std::fflush(file.get()) == 0 && ok;
    return ok;
  }

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::FILE* Of(const Place& place) {
    auto& file = files_[place.account + "-" + place.region];
    if (!file) {
      const std::string path = dir_ + "/" + place.account + "-" + place.region + ".jsonl";
      file.reset(std::fopen(path.c_str(), "ae"));
      if (!file) std::perror(path.c_str());
    }
    return file.get();
  }
  const std::string dir_;
  std::map<std::string, std::unique_ptr<std::FILE, Close>> files_;
};

std::vector<Place> PlacesOf(const Options& o) {
  std::vector<Place> places;
  for (const std::string& p : o.places) places.push_back({p.substr(0, p.find('/')), p.substr(std::min(p.size(), p.find('/') + 1))});
  if (!places.empty()) return places;
  for (const std::string& a : o.accounts) {
    for (const std::string& r : o.regions) places.push_back({a, r});
  }
  return places;
}

int Failed() {
  std::fprintf(stderr, "orgtrail-generate: the output cannot be written\n");
  return 1;
}

void Pause() {
  const timespec pause{0, 10'000'000};
  nanosleep(&pause, nullptr);
}

// In real time: eventTime is now, what is due goes out every 10 ms.
int Paced(const Options& o, RecordMaker& maker, Seeded& rng, const std::vector<Place>& places, Out& out) {
  const Clock& clock = SystemClock();
  const Tick start = clock.Now();
  for (uint64_t made = 0; made < o.records;) {
    const double due = absl::ToDoubleSeconds(clock.Now() - start) * o.pace;
    for (; made < o.records && static_cast<double>(made) < due; ++made) {
      const Place& place = places[rng.Below(places.size())];
      if (!out.Write(place, maker.Ordinary(place, clock.Wall()))) return Failed();
    }
    if (!out.Flush()) return Failed();
    Pause();
  }
  return 0;
}

// The incident among ordinary records of the last half hour, in order of time; at --pace, so that several files fill side by side.
int WithIncident(const Options& o, RecordMaker& maker, Seeded& rng, const std::vector<Place>& places, Out& out) {
  const Clock& clock = SystemClock();
  const absl::Time now = clock.Wall();
  std::vector<Line> lines = Incident(maker, o.accounts, o.regions, now);
  for (uint64_t i = 0; i < o.records; ++i) {
    const Place& place = places[rng.Below(places.size())];
    const absl::Time when = now - absl::Seconds(static_cast<int64_t>(rng.Below(1800)));
    lines.push_back({when, place, maker.Ordinary(place, when)});
  }
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.when < b.when; });
  const Tick start = clock.Now();
  for (size_t i = 0; i < lines.size(); ++i) {
    while (o.pace > 0 && static_cast<double>(i) > absl::ToDoubleSeconds(clock.Now() - start) * o.pace) {
      if (!out.Flush()) return Failed();
      Pause();
    }
    if (!out.Write(lines[i].place, lines[i].record)) return Failed();
  }
  return out.Flush() ? 0 : Failed();
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("orgtrail-generate: CloudTrail-shaped records for tests and demonstrations, one a line.", "orgtrail-generate");
  app.add_option("--records", o.records, "How many ordinary records")->capture_default_str();
  app.add_option("--seed", o.seed, "Same seed and start, same bytes")->capture_default_str();
  app.add_option("--accounts", o.accounts, "Accounts, separated by commas; the first is the management account")->delimiter(',')->capture_default_str();
  app.add_option("--regions", o.regions, "Regions, separated by commas; the first is the home region")->delimiter(',')->capture_default_str();
  app.add_option("--places", o.places, "ACCOUNT/REGION,…: where ordinary records come from; default: every account in every region")->delimiter(',');
  app.add_option("--start", o.start, "eventTime of the first record: RFC 3339, or -2h; default: so that the last is now");
  app.add_option("--rate", o.rate, "Records a second, as eventTime counts")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--size", o.size, "Pad or shorten records to about this many bytes; 0: as they come, 1.5 KB on average")->capture_default_str();
  app.add_flag("--incident", o.incident, "An incident of the last half hour among the ordinary records");
  app.add_option("--split", o.split, "Append to DIR/ACCOUNT-REGION.jsonl instead of standard output");
  app.add_option("--pace", o.pace, "Write this many a second, in real time; eventTime is now, except of an incident; 0: at once")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (o.accounts.empty() || o.regions.empty()) {
    std::fprintf(stderr, "orgtrail-generate: --accounts and --regions need one each at least\n");
    return 2;
  }
  RecordMaker maker(o.seed, o.size);
  Seeded rng(o.seed ^ 0x6f726774);
  const std::vector<Place> places = PlacesOf(o);
  Out out(o.split);
  if (o.incident) return WithIncident(o, maker, rng, places, out);
  if (o.pace > 0) return Paced(o, maker, rng, places, out);

  const absl::Time now = SystemClock().Wall();
  absl::Time first = now - absl::Seconds(static_cast<double>(o.records) / o.rate);
  if (!o.start.empty() && !ParseWhen(o.start, now, &first)) {
    std::fprintf(stderr, "orgtrail-generate: --start %s: a time such as 2026-11-20T09:00:00Z, or -2h\n", o.start.c_str());
    return 2;
  }
  for (uint64_t i = 0; i < o.records; ++i) {
    const Place& place = places[rng.Below(places.size())];
    if (!out.Write(place, maker.Ordinary(place, first + absl::Seconds(static_cast<double>(i) / o.rate)))) return Failed();
  }
  return out.Flush() ? 0 : Failed();
}
