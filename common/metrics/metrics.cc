#include "common/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <utility>

#include "common/base/status.h"

namespace orgtrail {
namespace {

struct PrometheusCounter final : Counter {
  explicit PrometheusCounter(prometheus::Counter& c) : counter(c) {}
  void Add(double n) override { counter.Increment(n); }
  double Value() const override { return counter.Value(); }
  prometheus::Counter& counter;
};
struct PrometheusGauge final : Gauge {
  explicit PrometheusGauge(prometheus::Gauge& g) : gauge(g) {}
  void Set(double v) override { gauge.Set(v); }
  prometheus::Gauge& gauge;
};
struct PrometheusHistogram final : Histogram {
  explicit PrometheusHistogram(prometheus::Histogram& h) : histogram(h) {}
  void Observe(double v) override { histogram.Observe(v); }
  prometheus::Histogram& histogram;
};

}  // namespace

struct Metrics::Impl {
  // One name, one kind, one help: a second use with another kind is our mistake, found at once.
  template <class Kind, class Builder, class Wrapped, class... Args>
  Wrapped& Get(std::map<std::string, std::pair<prometheus::Family<Kind>*, std::map<Labels, std::unique_ptr<Wrapped>>>>& all,
               Builder builder, std::string_view name, std::string_view help, const Labels& labels, Args&&... args) {
    std::lock_guard lock(mu);
    auto& [family, objects] = all[std::string(name)];
    try {
      if (family == nullptr) family = &builder.Name(std::string(name)).Help(std::string(help)).Register(registry);
      std::unique_ptr<Wrapped>& object = objects[labels];
      if (object == nullptr) object = std::make_unique<Wrapped>(family->Add(labels, std::forward<Args>(args)...));
      return *object;
    } catch (const std::exception& e) {  // a name or label Prometheus does not take, or a name of another kind
      CheckFailed(__FILE__, __LINE__, "metric", std::string(name) + ": " + e.what());
    }
  }

  mutable std::mutex mu;  // of the maps; the numbers are atomic
  prometheus::Registry registry;
  std::map<std::string, std::pair<prometheus::Family<prometheus::Counter>*, std::map<Labels, std::unique_ptr<PrometheusCounter>>>>
      counters;
  std::map<std::string, std::pair<prometheus::Family<prometheus::Gauge>*, std::map<Labels, std::unique_ptr<PrometheusGauge>>>>
      gauges;
  std::map<std::string,
           std::pair<prometheus::Family<prometheus::Histogram>*, std::map<Labels, std::unique_ptr<PrometheusHistogram>>>>
      histograms;

  mutable std::mutex collect_mu;  // one Text() at a time runs the readers
  std::vector<std::function<void()>> readers;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::GetCounter(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->Get(impl_->counters, prometheus::BuildCounter(), name, help, labels);
}
Gauge& Metrics::GetGauge(std::string_view name, std::string_view help, const Labels& labels) {
  return impl_->Get(impl_->gauges, prometheus::BuildGauge(), name, help, labels);
}
Histogram& Metrics::GetHistogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                                 const Labels& labels) {
  return impl_->Get(impl_->histograms, prometheus::BuildHistogram(), name, help, labels, std::move(bounds));
}

void Metrics::OnCollect(std::function<void()> read) {
  std::lock_guard lock(impl_->collect_mu);
  impl_->readers.push_back(std::move(read));
}

std::string Metrics::Text() const {
  std::lock_guard lock(impl_->collect_mu);
  for (const auto& read : impl_->readers) read();
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
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
