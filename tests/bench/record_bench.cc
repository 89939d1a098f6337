// What a record costs before it is hashed: scan, stamp, admit; beside simdjson reading twelve fields.
// Files of JSON lines named on the command line are measured instead of the built-in records.
#include <benchmark/benchmark.h>
#include <simdjson.h>

#include <fstream>

#include "agent/record/recorder.h"
#include "aggregator/admit/admitter.h"
#include "common/crypto/digest.h"
#include "common/json/scanner.h"

namespace orgtrail {
namespace {

std::vector<std::string> records;
size_t bytes = 0;

void Load(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream in(argv[i]);
    for (std::string line; std::getline(in, line);) {
      if (!line.empty()) records.push_back(line);
    }
  }
  for (int i = 0; records.size() < 1000 && argc < 2; ++i) {
    const std::string n = std::to_string(100000000000 + i * 7919L % 899999999);
    records.push_back(
        R"({"eventVersion":"1.08","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLEEXAMPLE1:session-)" + n +
        R"(","arn":"arn:aws:sts::222222222222:assumed-role/Deployer/session-)" + n +
        R"(","accountId":"222222222222","accessKeyId":"ASIAEXAMPLEEXAMPLE12","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLEEXAMPLE1","arn":"arn:aws:iam::222222222222:role/Deployer","accountId":"222222222222","userName":"Deployer"},"webIdFederationData":{},"attributes":{"creationDate":"2026-11-20T08:55:31Z","mfaAuthenticated":"false"}}},"eventTime":"2026-11-20T09:01:44Z","eventSource":"s3.amazonaws.com","eventName":"GetBucketPolicy","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.44","userAgent":"[aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0-13-amd64 source/x86_64.debian.12 prompt/off command/s3api.get-bucket-policy]","requestParameters":{"bucketName":"bucket-)" +
        n +
        R"(","Host":"bucket.s3.eu-west-1.amazonaws.com","policy":""},"responseElements":null,"additionalEventData":{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","bytesTransferredOut":1375},"requestID":"CC9X0N62QREGTBMN","eventID":"293ba626-3be5-4a26-ab1b-)" +
        n + R"(","readOnly":true,"resources":[{"accountId":"222222222222","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::bucket"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"222222222222","eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256"}})");
  }
  for (const std::string& r : records) bytes += r.size();
}

void Report(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * records.size()));
  state.counters["us/record"] =
      benchmark::Counter(static_cast<double>(state.iterations() * records.size()) / 1e6, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Validate(benchmark::State& state) {
  json::Scanner scanner;
  for (auto _ : state) {
    for (const std::string& r : records) benchmark::DoNotOptimize(scanner.Validate(r, true));
  }
  Report(state);
}

void BM_Scan(benchmark::State& state) {
  json::Scanner scanner;
  json::Fields fields;
  for (auto _ : state) {
    for (const std::string& r : records) benchmark::DoNotOptimize(scanner.Scan(r, &fields));
  }
  Report(state);
}

void BM_Stamp(benchmark::State& state) {
  Recorder recorder("222222222222", "eu-west-1", SystemClock(), SystemRng());
  for (auto _ : state) {
    for (const std::string& r : records) benchmark::DoNotOptimize(recorder.Stamp(r).body.size());
  }
  Report(state);
}

void BM_Admit(benchmark::State& state) {
  Leaf leaf;
  leaf.header.account = "222222222222";
  leaf.header.region = "eu-west-1";
  for (const std::string& r : records) {
    Row row;
    row.event_class = 1;
    row.body = r;
    leaf.events.rows.push_back(row);
  }
  Admitter admitter;
  for (auto _ : state) {
    admitter.Admit("any", leaf);
    benchmark::DoNotOptimize(leaf.terms.data());
  }
  Report(state);
  state.counters["terms/record"] = static_cast<double>(leaf.terms.size()) / static_cast<double>(records.size());
}

// The nearest other way: one pass over the top-level keys, twelve of them read. It accepts garbage in what it skips.
void BM_SimdjsonOnDemand(benchmark::State& state) {
  simdjson::ondemand::parser parser;
  std::vector<simdjson::padded_string> padded(records.begin(), records.end());
  for (auto _ : state) {
    for (const simdjson::padded_string& text : padded) {
      simdjson::ondemand::document doc;
      simdjson::ondemand::object object;
      if (parser.iterate(text).get(doc) != simdjson::SUCCESS || doc.get_object().get(object) != simdjson::SUCCESS) continue;
      size_t total = 0;
      for (auto field : object) {
        std::string_view key, value;
        if (field.unescaped_key().get(key) != simdjson::SUCCESS) break;
        if (key == "eventTime" || key == "eventSource" || key == "eventName" || key == "awsRegion" || key == "sourceIPAddress" || key == "errorCode" ||
            key == "eventID" || key == "eventType" || key == "recipientAccountId" || key == "eventCategory" || key == "eventVersion" || key == "userAgent") {
          if (field.value().get_string().get(value) == simdjson::SUCCESS) total += value.size();
        }
      }
      benchmark::DoNotOptimize(total);
    }
  }
  Report(state);
}

void BM_SimdjsonDom(benchmark::State& state) {
  simdjson::dom::parser parser;
  std::vector<simdjson::padded_string> padded(records.begin(), records.end());
  for (auto _ : state) {
    for (const simdjson::padded_string& text : padded) benchmark::DoNotOptimize(parser.parse(text).error());
  }
  Report(state);
}

BENCHMARK(BM_Validate);
BENCHMARK(BM_Scan);
BENCHMARK(BM_Stamp);
BENCHMARK(BM_Admit);
BENCHMARK(BM_SimdjsonOnDemand);
BENCHMARK(BM_SimdjsonDom);

}  // namespace
}  // namespace orgtrail

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);  // takes its own flags out; what remains are files
  orgtrail::Load(argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
