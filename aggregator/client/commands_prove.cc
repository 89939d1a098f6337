#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <set>
#include <thread>

#include "aggregator/client/context.h"
#include "aggregator/client/envelope.h"
#include "aggregator/client/progress.h"
#include "aggregator/client/table.h"
#include "aggregator/ledger/ledger.h"
#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/format/audit.h"
#include "common/format/note.h"
#include "common/format/proof.h"

namespace orgtrail::client {
namespace {

absl::StatusOr<TrustPolicy> LoadTrust(Context& context) {
  std::string path = context.trust;
  if (path.empty()) {
    absl::StatusOr<Profile> profile = context.LoadProfile();
    if (!profile.ok()) {
      context.exit_code = kNoTrust;
      return profile.status();
    }
    path = profile->trust;
  }
  if (path.empty()) {
    context.exit_code = kNoTrust;
    return absl::FailedPreconditionError("no trusted log key: give --trust trust.policy, as the organization published it");
  }
  absl::StatusOr<std::string> text = ReadFile(context.fs, path, 1 << 20);
  absl::StatusOr<TrustPolicy> trust = text.ok() ? TrustPolicy::Decode(*text) : text.status();
  if (!trust.ok()) {
    context.exit_code = kNoTrust;
    return Annotate(trust.status(), "trust policy " + path);
  }
  return trust;
}

absl::StatusOr<Checkpoint> Trusted(Context& context, const TrustPolicy& trust, std::string_view note) {
  absl::Status last = absl::FailedPreconditionError("the trust policy names no log");
  for (const NoteKey& key : trust.logs) {
    absl::StatusOr<Checkpoint> c = OpenCheckpoint(note, key);
    if (c.ok()) return c;
    last = c.status();
  }
  context.exit_code = absl::IsDataLoss(last) ? kTampered : kNoTrust;
  return Annotate(last, "checkpoint");
}

absl::Status Prove(Context& context, const std::string& id, const std::string& at) {
  pb::GetEventProofRequest request;
  request.set_event_id(id);
  RETURN_IF_ERROR(SetAt(at, &request));
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  ASSIGN_OR_RETURN(pb::EventProofResponse answer, rpc->EventProof(request));
  if (answer.proof().empty()) {
    std::fprintf(stderr, "orgtrail: several records have event id %s; pick one with --at:\n", id.c_str());
    for (const std::string& c : answer.candidates()) std::fprintf(stderr, "  --at %s\n", c.c_str());
    context.exit_code = kFailed;
    return absl::OkStatus();
  }
  std::fwrite(answer.proof().data(), 1, answer.proof().size(), stdout);
  return absl::OkStatus();
}

absl::Status VerifyOne(Context& context, const std::string& path, const std::string& record_path) {
  ASSIGN_OR_RETURN(TrustPolicy trust, LoadTrust(context));
  ASSIGN_OR_RETURN(std::string text, path == "-" ? ReadStandardInput() : ReadFile(context.fs, path, 64 << 20));
  std::string record;
  if (!record_path.empty()) {
    ASSIGN_OR_RETURN(record, ReadFile(context.fs, record_path));
  }
  context.exit_code = kTampered;  // until proven
  absl::StatusOr<EventProof> proof = EventProof::Decode(text);
  if (!proof.ok()) return Annotate(proof.status(), "NOT PROVEN, the proof cannot be read");
  if (!record_path.empty()) {
    if (record != proof->body && !(record.ends_with('\n') && std::string_view(record).substr(0, record.size() - 1) == proof->body)) {
      return absl::DataLossError(absl::StrCat("NOT PROVEN: ", record_path, " is not the record this proof is about"));
    }
  }
  absl::StatusOr<ProofFacts> facts = VerifyProof(*proof, trust);
  if (!facts.ok()) {
    if (absl::IsFailedPrecondition(facts.status())) context.exit_code = kNoTrust;
    return Annotate(facts.status(), "NOT PROVEN");
  }
  context.exit_code = kOk;
  const BatchHeader& h = facts->header;
  if (context.output() != Output::kTable && !context.output_flag.empty()) {
    std::string json = "{\"proven\":true,\"origin\":" + JsonString(facts->checkpoint.origin) + ",\"treeSize\":" + std::to_string(facts->checkpoint.size);
    json += ",\"leaf\":" + std::to_string(proof->batch.index) + ",\"event\":" + std::to_string(proof->event_index);
    json += ",\"account\":" + JsonString(h.account) + ",\"region\":" + JsonString(h.region) + ",\"agent\":" + JsonString(h.agent);
    json += ",\"uuid\":" + JsonString(h.agent_uuid.ToString()) + ",\"epoch\":" + std::to_string(h.epoch) + ",\"batch\":" + std::to_string(h.batch_seq);
    json += ",\"captured\":" + JsonString(Rfc3339(absl::FromUnixNanos(static_cast<int64_t>(proof->prefix.wall_ns)), 9));
    json += ",\"logKey\":" + JsonString(facts->log_key.Encode()) + ",\"steps\":[";
    for (size_t i = 0; i < facts->steps.size(); ++i) json += (i ? "," : "") + JsonString(facts->steps[i]);
    std::printf("%s]}\n", json.c_str());
    return absl::OkStatus();
  }
  std::printf("%s\n", Paint(context.color(), "1;32", "PROVEN").c_str());
  std::printf("  This record was captured by agent %s of account %s in %s at %s (the agent's clock),\n", h.agent.c_str(), h.account.c_str(), h.region.c_str(),
              Rfc3339(absl::FromUnixNanos(static_cast<int64_t>(proof->prefix.wall_ns)), 6).c_str());
  std::printf("  is event %u of leaf %llu of the log %s, and has not been altered since.\n", proof->event_index,
              static_cast<unsigned long long>(proof->batch.index), facts->checkpoint.origin.c_str());
  for (const std::string& step : facts->steps) std::printf("  %s %s\n", Paint(context.color(), "32", "✓").c_str(), step.c_str());
  std::printf("  trusted: %s\n", facts->log_key.Encode().c_str());
  return absl::OkStatus();
}

struct LedgerFlags {
  std::string dir, kek;
  bool strict = false;
  int threads = 0;
};

int Judge(const AuditReport& report, bool strict) {
  bool incomplete = false;
  for (const AuditFinding& f : report.findings) {
    if (f.kind == AuditFinding::Kind::kTampered) return kTampered;
    incomplete |= f.kind == AuditFinding::Kind::kIncomplete;
  }
  if (strict && report.tombstones > report.expired) incomplete = true;
  if (strict && report.unexplained != 0) incomplete = true;
  return incomplete ? kIncomplete : kOk;
}

void Print(Context& context, const AuditReport& r, const Checkpoint& checkpoint, bool strict, double seconds) {
  const int verdict = Judge(r, strict);
  if (context.output() != Output::kTable && !context.output_flag.empty()) {
    std::string json = std::string("{\"verdict\":\"") + (verdict == kOk ? "proven" : verdict == kTampered ? "tampered" : "incomplete");
    json += "\",\"origin\":" + JsonString(checkpoint.origin) + ",\"treeSize\":" + std::to_string(checkpoint.size);
    json += ",\"leaves\":" + std::to_string(r.leaves) + ",\"batches\":" + std::to_string(r.batches) + ",\"events\":" + std::to_string(r.events);
    json += ",\"lost\":" + std::to_string(r.lost) + ",\"agents\":" + std::to_string(r.agents) + ",\"epochs\":" + std::to_string(r.epochs);
    json += ",\"uncleanEpochs\":" + std::to_string(r.unclean_epochs) + ",\"tombstones\":" + std::to_string(r.tombstones) + ",\"expired\":" + std::to_string(r.expired);
    json += ",\"unexplained\":" + std::to_string(r.unexplained);
    json += ",\"bodiesMissing\":" + std::to_string(r.bodies_missing) + ",\"quarantinedBatches\":" + std::to_string(r.quarantined) + ",\"findings\":[";
    bool first = true;
    for (const AuditFinding& f : r.findings) {
      const char* kind = f.kind == AuditFinding::Kind::kTampered ? "tampered" : f.kind == AuditFinding::Kind::kIncomplete ? "incomplete" : "note";
      json += std::string(first ? "" : ",") + "{\"kind\":\"" + kind + "\",\"leaf\":" + std::to_string(f.leaf) + ",\"what\":" + JsonString(f.what) + "}";
      first = false;
    }
    std::printf("%s]}\n", json.c_str());
    return;
  }
  const char* words = verdict == kOk ? "PROVEN" : verdict == kTampered ? "TAMPERED" : "INCOMPLETE";
  std::printf("%s  %s, %s leaves\n", Paint(context.color(), verdict == kOk ? "1;32" : "1;31", words).c_str(), checkpoint.origin.c_str(),
              HumanCount(static_cast<double>(r.leaves)).c_str());
  std::printf("  %s batches of %s agents in %s epochs hold %s records; every hash, signature and chain link was checked in %.1f s (%s records/s)\n",
              HumanCount(static_cast<double>(r.batches)).c_str(), HumanCount(static_cast<double>(r.agents)).c_str(), HumanCount(static_cast<double>(r.epochs)).c_str(),
              HumanCount(static_cast<double>(r.events)).c_str(), seconds, HumanCount(seconds > 0 ? static_cast<double>(r.events) / seconds : 0).c_str());
  if (r.lost != 0) std::printf("  %s events were lost at their source and signed as lost\n", HumanCount(static_cast<double>(r.lost)).c_str());
  if (r.unexplained != 0) std::printf("  %s of them without a record that says why\n", HumanCount(static_cast<double>(r.unexplained)).c_str());
  if (r.quarantined != 0) std::printf("  %s batches are set apart in quarantine; the notes below name the evidence\n", HumanCount(static_cast<double>(r.quarantined)).c_str());
  if (r.expired != 0) std::printf("  %s bodies expired by governance's order, the notes below name the leaves; their hashes verify\n", HumanCount(static_cast<double>(r.expired)).c_str());
  if (r.tombstones > r.expired) {
    std::printf("  %s bodies are gone (tombstones); their hashes still verify\n", HumanCount(static_cast<double>(r.tombstones - r.expired)).c_str());
  }
  if (r.bodies_missing != 0) {
    std::printf("  %s records came without their bodies (an agent's disk damaged them); that they were captured is signed, what they said is lost\n",
                HumanCount(static_cast<double>(r.bodies_missing)).c_str());
  }
  for (const AuditFinding& f : r.findings) {
    const char* kind = f.kind == AuditFinding::Kind::kTampered ? "TAMPERED" : f.kind == AuditFinding::Kind::kIncomplete ? "INCOMPLETE" : "note";
    std::printf("  %s  leaf %llu: %s\n", kind, static_cast<unsigned long long>(f.leaf), Printable(f.what).c_str());
  }
  if (r.more != 0) std::printf("  … and %llu more\n", static_cast<unsigned long long>(r.more));
}

absl::Status VerifyLedger(Context& context, const LedgerFlags& f) {
  ASSIGN_OR_RETURN(TrustPolicy trust, LoadTrust(context));
  const int threads = f.threads > 0 ? f.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const Tick start = context.clock.Now();
  if (f.dir.empty()) {
    ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
    ASSIGN_OR_RETURN(pb::CheckpointResponse answer, rpc->Checkpoint());
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Trusted(context, trust, answer.note()));
    const auto reread = [&](uint64_t to, const std::function<bool(std::string_view)>& take) {
      pb::ReadLeavesRequest again;
      again.set_to(to);
      again.set_frames(true);
      return to == 0 ? absl::OkStatus()
                     : rpc->ReadLeaves(again, [&](const pb::Leaf& leaf) { return take(leaf.frame().empty() ? leaf.entry() : leaf.frame()); });
    };
    Audit audit(threads, checkpoint, reread, context.clock.WallNanos());
    Progress progress("verify", checkpoint.size, context.clock);
    pb::ReadLeavesRequest request;
    request.set_to(checkpoint.size);
    request.set_frames(true);
    uint64_t expected = 0;
    absl::Status order;
    RETURN_IF_ERROR(rpc->ReadLeaves(request, [&](const pb::Leaf& leaf) {
      if (leaf.index() != expected++) {
        order = absl::DataLossError(absl::StrCat("the aggregator sent leaf ", leaf.index(), " where ", expected - 1, " was due"));
        return false;
      }
      audit.Add(leaf.frame().empty() ? leaf.entry() : leaf.frame(), (leaf.flags() & kLeafQuarantined) != 0);
      progress.At(expected);
      return true;
    }));
    if (!order.ok()) {
      context.exit_code = kTampered;
      return order;
    }
    const AuditReport report = audit.Finish();
    Print(context, report, checkpoint, f.strict, absl::ToDoubleSeconds(context.clock.Now() - start));
    context.exit_code = Judge(report, f.strict);
    return absl::OkStatus();
  }
  LedgerOptions options;
  options.dir = f.dir;
  options.read_only = true;
  ASSIGN_OR_RETURN(options.kek, LedgerKek(context.fs, f.kek, f.dir));
  if (trust.logs.size() != 1) return absl::InvalidArgumentError("verify ledger DIR needs a trust policy with exactly one log");
  absl::StatusOr<std::unique_ptr<Ledger>> ledger = Ledger::Open(options, trust.logs[0].name, nullptr, context.fs, context.clock);
  if (!ledger.ok()) {
    context.exit_code = absl::IsDataLoss(ledger.status()) ? kTampered : kFailed;
    return ledger.status();
  }
  const SignedHead head = (*ledger)->head();
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Trusted(context, trust, head.note));
  const auto reread = [&](uint64_t to, const std::function<bool(std::string_view)>& take) -> absl::Status {
    for (uint64_t i = 0; i < to; ++i) {
      ASSIGN_OR_RETURN(const RawLeaf raw, (*ledger)->ReadRaw(i));
      if (!take(raw.bytes)) break;
    }
    return absl::OkStatus();
  };
  Audit audit(threads, checkpoint, reread, context.clock.WallNanos());
  Progress progress("verify", head.size, context.clock);
  for (uint64_t i = 0; i < head.size; ++i) {
    absl::StatusOr<RawLeaf> raw = (*ledger)->ReadRaw(i);
    if (!raw.ok()) {
      context.exit_code = absl::IsFailedPrecondition(raw.status()) ? kVerifyUsage : kTampered;   // the key to read it is missing
      return raw.status();
    }
    audit.Add(std::move(raw->bytes), (raw->flags & kLeafQuarantined) != 0);
    progress.At(i);
  }
  const AuditReport report = audit.Finish();
  Print(context, report, checkpoint, f.strict, absl::ToDoubleSeconds(context.clock.Now() - start));
  context.exit_code = Judge(report, f.strict);
  return absl::OkStatus();
}

// A feed written with --envelope against the log: every record it holds is the record of that leaf and place, none is there
// twice, and between its first and last cursor none that its filters let through is missing (only known without filters).
absl::Status VerifyFeed(Context& context, const std::string& path) {
  ASSIGN_OR_RETURN(TrustPolicy trust, LoadTrust(context));
  ASSIGN_OR_RETURN(std::string text, path == "-" ? ReadStandardInput() : ReadFile(context.fs, path, 64 << 20));
  ASSIGN_OR_RETURN(std::unique_ptr<Rpc> rpc, context.Connect());
  ASSIGN_OR_RETURN(pb::CheckpointResponse answer, rpc->Checkpoint());
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Trusted(context, trust, answer.note()));
  uint64_t checked = 0, line_number = 0, gone = 0, expired = 0;
  std::set<std::pair<uint64_t, uint64_t>> seen;
  Progress progress("verify feed", 0, context.clock);
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    ++line_number;
    if (line.empty()) continue;
    const std::string where = "line " + std::to_string(line_number);
    const auto number = [&](std::string_view key) -> std::optional<uint64_t> {
      const size_t at = line.find(key);
      if (at == std::string_view::npos) return std::nullopt;
      size_t stop = at + key.size();
      while (stop < line.size() && line[stop] >= '0' && line[stop] <= '9') ++stop;
      return ParseUint(line.substr(at + key.size(), stop - at - key.size()));
    };
    const std::optional<uint64_t> leaf = number("\"leaf\":"), event = number("\"event\":");
    constexpr std::string_view kRecord = ",\"record\":";
    const size_t record = line.find(kRecord);
    if (!leaf || !event || record == std::string_view::npos || !line.ends_with('}')) {
      return absl::InvalidArgumentError(where + ": not a line of `orgtrail feed --envelope -o jsonl`");
    }
    const std::string_view body = line.substr(record + kRecord.size(), line.size() - record - kRecord.size() - 1);
    if (body == "null") {   // its body is gone: nothing can be proven of it
      ++(line.substr(0, record).find("\"EXPIRED\"") != std::string_view::npos ? expired : gone);
      continue;
    }
    if (!seen.emplace(*leaf, *event).second) {
      context.exit_code = kTampered;
      return absl::DataLossError(where + ": leaf " + std::to_string(*leaf) + " event " + std::to_string(*event) + " is there twice");
    }
    pb::GetEventProofRequest request;
    request.set_at_set(true);
    request.set_leaf_index(*leaf);
    request.set_event_index(static_cast<uint32_t>(*event));
    absl::StatusOr<pb::EventProofResponse> given = rpc->EventProof(request);
    if (absl::IsFailedPrecondition(given.status()) && given.status().message().find("EXPIRED ") != absl::string_view::npos) {
      ++expired;   // since the feed was saved
      continue;
    }
    if (absl::IsNotFound(given.status()) || absl::IsOutOfRange(given.status())) {   // somebody was given it, and the log does not have it
      context.exit_code = kTampered;
      return absl::DataLossError(where + ": the log has no record at leaf " + std::to_string(*leaf) + " event " + std::to_string(*event) +
                                 " any more: it is another log, or goes on from an older state");
    }
    RETURN_IF_ERROR(given.status());
    const pb::EventProofResponse& p = *given;
    context.exit_code = kTampered;
    ASSIGN_OR_RETURN(EventProof proof, EventProof::Decode(p.proof()));
    if (proof.body != body) return absl::DataLossError(where + ": the record differs from leaf " + std::to_string(*leaf) + " event " + std::to_string(*event));
    RETURN_IF_ERROR(Annotate(VerifyProof(proof, trust).status(), where));
    context.exit_code = kOk;
    progress.At(++checked);
  }
  std::printf("%s  %llu records, each proven against %s at size %llu\n", Paint(context.color(), "1;32", "PROVEN").c_str(),
              static_cast<unsigned long long>(checked), checkpoint.origin.c_str(), static_cast<unsigned long long>(checkpoint.size));
  if (expired != 0) {
    std::printf("  INCOMPLETE: the bodies of %llu more expired by governance's order; only a proof made before verifies them\n", static_cast<unsigned long long>(expired));
    context.exit_code = kIncomplete;
  }
  if (gone != 0) {
    std::printf("  INCOMPLETE: %llu more have no body and cannot be proven\n", static_cast<unsigned long long>(gone));
    context.exit_code = kIncomplete;
  }
  return absl::OkStatus();
}

void RunVerify(Context& context, const std::function<absl::Status()>& body) {
  if (absl::Status s = body(); !s.ok()) {
    if (context.exit_code == kOk) context.exit_code = absl::IsInvalidArgument(s) ? kVerifyUsage : kFailed;
    context.Fail(s, context.exit_code);
  }
}

}  // namespace

void AddProve(CLI::App& app, Context& context) {
  struct ProveFlags {
    std::string id, at, path = "-", record;
  };
  auto f = std::make_shared<ProveFlags>();
  CLI::App* prove = app.add_subcommand("prove", "Write the proof of one record: a file that anyone can verify, offline, for ever");
  prove->add_option("event-id", f->id, "The record's eventID")->required();
  prove->add_option("--at", f->at, "LEAF:EVENT, when an event id is not unique");
  prove->footer("Example:\n  orgtrail prove 7a7b7c7d-aaaa-4bbb-8ccc-ddddeeeeffff > proof\n  orgtrail verify proof proof --trust trust.policy\n");
  prove->callback([f, &context] { context.Run([&] { return Prove(context, f->id, f->at); }); });

  CLI::App* verify = app.add_subcommand("verify", "Check a proof, a whole ledger, or a feed. 0 proven, 2 tampered, 3 incomplete, 5 no trust, 64 usage");
  verify->require_subcommand(1);
  CLI::App* proof = verify->add_subcommand("proof", "A proof, offline: no server, no network; says in words what it proves");
  proof->add_option("file", f->path, "The proof; - for standard input")->capture_default_str();
  proof->add_option("--record", f->record, "That it is about exactly this record");
  proof->add_option("--trust", context.trust, "C2SP tlog-policy file with the log's key; default: the profile's");
  proof->callback([f, &context] { RunVerify(context, [&] { return VerifyOne(context, f->path, f->record); }); });

  auto l = std::make_shared<LedgerFlags>();
  CLI::App* ledger = verify->add_subcommand("ledger", "Every leaf: hashes, signatures, chains, roots, against the signed checkpoint");
  ledger->add_option("dir", l->dir, "The ledger's directory on this machine; default: over the network, from the profile's server");
  ledger->add_option("--trust", context.trust, "C2SP tlog-policy file with the log's key; default: the profile's");
  ledger->add_option("--key-encryption-key", l->kek, "With DIR: the ledger's kek.key; default: where org init puts it, ../../kek.key");
  ledger->add_flag("--strict", l->strict, "Bodies that are gone, and losses that no record explains, make it incomplete (3)");
  ledger->add_option("--threads", l->threads, "Default: every core");
  ledger->callback([l, &context] { RunVerify(context, [&] { return VerifyLedger(context, *l); }); });

  CLI::App* feed = verify->add_subcommand("feed", "A feed saved with --envelope: each record against its leaf, none twice");
  feed->add_option("file", f->path, "The saved feed; - for standard input")->capture_default_str();
  feed->add_option("--trust", context.trust, "C2SP tlog-policy file with the log's key; default: the profile's");
  feed->callback([f, &context] { RunVerify(context, [&] { return VerifyFeed(context, f->path); }); });
}

}  // namespace orgtrail::client
