// Built once per decoder: ORGTRAIL_FUZZ_TARGET names the one. The seeds are a small log, every piece of it.
#include "tests/fuzz/common/format/decoders.h"
#include "tests/fuzz/target.h"
#include "tests/support/sealed_log.h"

namespace orgtrail::fuzz {

void One(std::string_view in) { ORGTRAIL_FUZZ_TARGET(in); }

std::vector<std::string> Seeds() {
  SealedLog log;
  log.Close();
  log.Add(R"({"eventName":"PutObject"})");
  log.Add("not JSON");
  log.Close();
  std::vector<std::string> seeds = log.entries;
  for (const SealedBatch& batch : log.batches) {
    if (batch.frame.size() < 8192) seeds.push_back(batch.frame);
    const absl::StatusOr<FrameView> view = FrameView::Decode(batch.frame);
    CHECK(view.ok());
    if (!view->extension.empty()) seeds.emplace_back(view->extension);
    if (view->packed.empty()) continue;
    std::string plain;
    CHECK_OK(ZstdDecompressor().Decompress(view->packed, 1 << 20, &plain));
    seeds.push_back(std::string(1, static_cast<char>(view->n_rows)) + plain);
  }
  const Checkpoint checkpoint{SealedLog::kOrigin, log.entries.size(), Sha256("root")};
  seeds.push_back(SignNote(checkpoint.Text(), SealedLog::kOrigin, log.log_key));
  seeds.push_back(log.log_vkey().Encode());
  return seeds;
}

}  // namespace orgtrail::fuzz
