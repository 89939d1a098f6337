// Metrics: counters, gauges and histograms with meaning and unit, as Prometheus text. Threads: any.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace orgtrail {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Add(double n = 1) = 0;
  virtual double Value() const = 0;
};
class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double v) = 0;
};
class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double v) = 0;
};

// Names follow Prometheus: orgtrail_<noun>_<unit>[_total]; help says what a person does with the number. The object returned
// lives as long as the Metrics and is the same one for the same name and labels.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Counter& GetCounter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge& GetGauge(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram& GetHistogram(std::string_view name, std::string_view help, std::vector<double> bounds, const Labels& labels = {});
  // Called before each Text(): for values that are read, not counted (queue depth, process memory).
  void OnCollect(std::function<void()> read);
  std::string Text() const;
  // Seconds, 100 µs to 10 s.
  static std::vector<double> Latency();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds, process_start_time_seconds, build info.
void ExportProcess(Metrics& metrics, std::string_view program);

}  // namespace orgtrail
