#include "common/metrics/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

std::string Number(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  char text[400];
  const double size = std::abs(v);
  const auto end = size != 0 && (size < 1e-6 || size >= 1e15) ? std::to_chars(text, text + sizeof text, v)
                                                             : std::to_chars(text, text + sizeof text, v, std::chars_format::fixed);
  return std::string(text, end.ptr);
}

std::string Escaped(std::string_view text, bool quotes) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

bool IsMetricName(std::string_view name, bool colons) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [colons](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c == ':' && colons);
  });
}

struct Number64 final : Counter, Gauge {
  void Add(double n) override { value.fetch_add(n, std::memory_order_relaxed); }
  void Set(double v) override { value.store(v, std::memory_order_relaxed); }
  double Value() const override { return value.load(std::memory_order_relaxed); }
  std::atomic<double> value{0};
};

struct Buckets final : Histogram {
  explicit Buckets(std::vector<double> b) : bounds(std::move(b)), counts(bounds.size() + 1) {}
  void Observe(double v) override {
    const auto at = std::lower_bound(bounds.begin(), bounds.end(), v) - bounds.begin();  // le: a bound belongs to its bucket
    counts[static_cast<size_t>(at)].fetch_add(1, std::memory_order_relaxed);
    sum.fetch_add(v, std::memory_order_relaxed);
  }
  const std::vector<double> bounds;  // ascending
  std::vector<std::atomic<uint64_t>> counts;
  std::atomic<double> sum{0};
};

// {k="v",…} with one more label at the end, or nothing.
std::string LabelText(const Labels& labels, std::string_view more = {}) {
  std::string out;
  for (const auto& [name, value] : labels) out += (out.empty() ? "{" : ",") + name + "=\"" + Escaped(value, true) + '"';
  if (!more.empty()) out += (out.empty() ? "{" : ",") + std::string(more);
  return out.empty() ? out : out + '}';
}

void Require(bool right, std::string_view name, std::string_view rule) {
  if (!right) [[unlikely]] CheckFailed(__FILE__, __LINE__, "metric", std::string(name) + ": " + std::string(rule));
}

}  // namespace

struct Metrics::Impl {
  enum class Kind { kCounter, kGauge, kHistogram };
  struct Family {
    Kind kind;
    std::string help;
    std::map<Labels, std::unique_ptr<Number64>> numbers;
    std::map<Labels, std::unique_ptr<Buckets>> histograms;
  };

  // One name, one kind: a second use with another kind is our mistake, found at once. The caller holds mu.
  Family& Of(std::string_view name, std::string_view help, Kind kind, const Labels& labels) {
    Require(IsMetricName(name, true), name, "not a name");
    for (const auto& [label, value] : labels) Require(IsMetricName(label, false), name, "a label's name is not one");
    auto [it, added] = families.try_emplace(std::string(name));
    if (added) it->second = Family{kind, std::string(help), {}, {}};
    Require(it->second.kind == kind, name, "it is of another kind already");
    return it->second;
  }
  Number64& NumberOf(std::string_view name, std::string_view help, Kind kind, const Labels& labels) {
    std::lock_guard lock(mu);
    std::unique_ptr<Number64>& number = Of(name, help, kind, labels).numbers[labels];
    if (!number) number = std::make_unique<Number64>();
    return *number;
  }

  mutable std::mutex mu;  // of the maps; the numbers are atomic
  std::map<std::string, Family> families;

  mutable std::mutex collect_mu;  // one Text() at a time runs the readers
  std::vector<std::function<void()>> readers;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::GetCounter(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->NumberOf(name, help, Impl::Kind::kCounter, labels);
}
Gauge& Metrics::GetGauge(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->NumberOf(name, help, Impl::Kind::kGauge, labels);
}
Histogram& Metrics::GetHistogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                                 const Labels& labels) {
  std::lock_guard lock(impl_->mu);
  std::unique_ptr<Buckets>& buckets = impl_->Of(name, help, Impl::Kind::kHistogram, labels).histograms[labels];
  if (!buckets) {
    Require(std::is_sorted(bounds.begin(), bounds.end()), name, "its bounds do not ascend");
    buckets = std::make_unique<Buckets>(std::move(bounds));
  }
  return *buckets;
}

void Metrics::OnCollect(std::function<void()> read) {
  std::lock_guard lock(impl_->collect_mu);
  impl_->readers.push_back(std::move(read));
}

std::string Metrics::Text() const {
  std::lock_guard collect(impl_->collect_mu);
  for (const auto& read : impl_->readers) read();
  std::lock_guard lock(impl_->mu);
  std::string out;
  for (const auto& [name, family] : impl_->families) {
    constexpr std::string_view kKinds[] = {"counter", "gauge", "histogram"};
    out += "# HELP " + name + ' ' + Escaped(family.help, false) + "\n# TYPE " + name + ' ';
    out += kKinds[static_cast<size_t>(family.kind)];
    out += '\n';
    for (const auto& [labels, number] : family.numbers) out += name + LabelText(labels) + ' ' + Number(number->Value()) + '\n';
    for (const auto& [labels, histogram] : family.histograms) {
      uint64_t so_far = 0;
      for (size_t i = 0; i <= histogram->bounds.size(); ++i) {
        so_far += histogram->counts[i].load(std::memory_order_relaxed);
        const std::string le = i < histogram->bounds.size() ? Number(histogram->bounds[i]) : "+Inf";
        out += name + "_bucket" + LabelText(labels, "le=\"" + le + '"') + ' ' + std::to_string(so_far) + '\n';
      }
      out += name + "_sum" + LabelText(labels) + ' ' + Number(histogram->sum.load(std::memory_order_relaxed)) + '\n';
      out += name + "_count" + LabelText(labels) + ' ' + std::to_string(so_far) + '\n';
    }
  }
  return out;
}

std::vector<double> Metrics::Latency() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
}

namespace {

// /proc is the kernel talking, not a file that could be lost: it needs no Fs.
double ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  double total = 0, resident = 0;
  in >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double CpuSeconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double OpenFds() {
  std::error_code error;
  double n = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end; it.increment(error)) ++n;
  return n > 0 ? n - 1 : 0;  // less the one that lists them
}

double StartTime() {
  std::ifstream stat("/proc/self/stat");
  std::string line;
  std::getline(stat, line);
  const size_t close = line.rfind(')');  // the program's name may hold anything
  if (close == std::string::npos) return 0;
  std::istringstream fields(line.substr(close + 1));
  std::string skipped;
  for (int i = 3; i < 22; ++i) fields >> skipped;
  double ticks = 0;
  fields >> ticks;
  std::ifstream boot("/proc/stat");
  while (std::getline(boot, line)) {
    if (line.starts_with("btime ")) {
      return static_cast<double>(ParseUint(line.substr(6)).value_or(0)) + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
    }
  }
  return 0;
}

}  // namespace

void ExportProcess(Metrics& metrics, std::string_view program) {
  metrics
      .GetGauge("orgtrail_build_info", "Which version runs; always 1.",
                {{"program", std::string(program)}, {"version", ORGTRAIL_VERSION}})
      .Set(1);
  metrics.GetGauge("process_start_time_seconds", "When the process started, in Unix seconds; a jump is a restart.")
      .Set(StartTime());
  Gauge& resident = metrics.GetGauge("process_resident_memory_bytes", "Resident memory; steady growth is a leak.");
  Gauge& fds = metrics.GetGauge("process_open_fds", "Open file descriptors; compare with ulimit -n.");
  Counter& cpu = metrics.GetCounter("process_cpu_seconds_total", "User and system time; the rate is cores in use.");
  metrics.OnCollect([&resident, &fds, &cpu] {
    resident.Set(ResidentBytes());
    fds.Set(OpenFds());
    if (const double used = CpuSeconds() - cpu.Value(); used > 0) cpu.Add(used);
  });
}

}  // namespace orgtrail
