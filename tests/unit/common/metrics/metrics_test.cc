#include "common/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace orgtrail {
namespace {

using testing::HasSubstr;

TEST(Metrics, TextShowsWhatWasCounted) {
  Metrics metrics;
  Counter& c = metrics.GetCounter("orgtrail_records_total", "Records taken.", {{"source", "a\"b\n"}});
  c.Add();
  c.Add(2);
  EXPECT_EQ(c.Value(), 3);
  metrics.GetGauge("orgtrail_lag_seconds", "Age.").Set(1.5);
  Histogram& h = metrics.GetHistogram("orgtrail_commit_seconds", "Commit.", Metrics::Latency());
  h.Observe(0.002);
  h.Observe(20);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("# HELP orgtrail_records_total Records taken.\n# TYPE orgtrail_records_total counter\n"));
  EXPECT_THAT(text, HasSubstr("orgtrail_records_total{source=\"a\\\"b\\n\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("orgtrail_lag_seconds 1.5\n"));
  EXPECT_THAT(text, HasSubstr("orgtrail_commit_seconds_bucket{le=\"0.0025\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("orgtrail_commit_seconds_bucket{le=\"+Inf\"} 2\n"));
}

TEST(Metrics, SameNameAndLabelsAreTheSameObject) {
  Metrics metrics;
  Counter& a = metrics.GetCounter("x_total", "X.", {{"k", "1"}});
  EXPECT_EQ(&a, &metrics.GetCounter("x_total", "X.", {{"k", "1"}}));
  EXPECT_NE(&a, &metrics.GetCounter("x_total", "X.", {{"k", "2"}}));
}

TEST(Metrics, CollectorsRunBeforeEachText) {
  Metrics metrics;
  Gauge& depth = metrics.GetGauge("queue_depth", "Depth.");
  int reads = 0;
  metrics.OnCollect([&] { depth.Set(++reads); });
  EXPECT_THAT(metrics.Text(), HasSubstr("queue_depth 1\n"));
  EXPECT_THAT(metrics.Text(), HasSubstr("queue_depth 2\n"));
}

TEST(Metrics, CountsFromManyThreads) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&metrics] {
      for (int i = 0; i < 1000; ++i) metrics.GetCounter("n_total", "N.").Add();
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(metrics.GetCounter("n_total", "N.").Value(), 4000);
}

TEST(Metrics, ProcessFacts) {
  Metrics metrics;
  ExportProcess(metrics, "orgtrail-test");
  const std::string text = metrics.Text();
  auto value = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size() + 2));
  };
  EXPECT_GT(value("process_resident_memory_bytes"), 1e6);
  EXPECT_GE(value("process_cpu_seconds_total"), 0);
  EXPECT_GE(value("process_open_fds"), 3);
  EXPECT_GT(value("process_start_time_seconds"), 1.7e9);
  EXPECT_THAT(text, HasSubstr("orgtrail_build_info{program=\"orgtrail-test\",version=\"" ORGTRAIL_VERSION "\"} 1\n"));
}

TEST(MetricsDeathTest, OneNameHasOneKind) {
  Metrics metrics;
  metrics.GetCounter("n_total", "N.");
  EXPECT_DEATH(metrics.GetGauge("n_total", "N."), "n_total");
  EXPECT_DEATH(metrics.GetCounter("not a name", "N."), "not a name");
}

}  // namespace
}  // namespace orgtrail
