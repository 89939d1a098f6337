#include "aggregator/client/inspect.h"

#include <algorithm>

#include "aggregator/client/table.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/crypto/x509.h"
#include "common/format/batch.h"
#include "common/format/chain.h"
#include "common/format/control.h"
#include "common/format/epoch.h"
#include "common/format/frame.h"
#include "common/format/note.h"
#include "common/format/proof.h"
#include "common/format/retention.h"
#include "common/format/token.h"
#include "common/merkle/tree.h"

namespace orgtrail::client {
namespace {

constexpr size_t kRowsShown = 20;

std::string Line(std::string_view name, const std::string& value) {
  std::string line = "  ";
  line += name;
  line.append(name.size() < 16 ? 16 - name.size() : 1, ' ');
  return line + Printable(value) + "\n";  // what others wrote must not speak to the terminal
}
std::string Lines(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    out += Printable(text.substr(0, end)) + "\n";
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return out;
}
std::string Ns(uint64_t ns) { return Rfc3339(absl::FromUnixNanos(static_cast<int64_t>(ns)), 9); }
std::string N(uint64_t n) { return std::to_string(n); }

std::string Header(const BatchHeader& h) {
  std::string out = "batch header OTB1\n";
  out += Line("kind", std::string(BatchKindName(h.kind)) + ", flags " + N(h.flags));
  out += Line("agent", h.org + " " + h.account + "/" + h.region + "/" + h.agent + "  uuid " + h.agent_uuid.ToString());
  out += Line("position", "epoch " + N(h.epoch) + ", batch " + N(h.batch_seq) + ", key slot " + N(h.key_slot));
  out += Line("sequence", N(h.first_seq) + " to " + N(h.last_seq) + ": " + N(h.n_events) + " events, " + N(h.n_lost) + " lost");
  out += Line("since epoch", N(h.cum_events) + " events, " + N(h.cum_lost) + " lost");
  out += Line("closed", Ns(h.wall_close_ns) + " (agent's clock), boot +" + N(h.boot_close_ns) + " ns");
  out += Line("events_root", Hex(h.events_root.view()));
  out += Line("prev_hash", Hex(h.prev_hash.view()));
  out += Line("keytree_root", Hex(h.keytree_root.view()));
  out += Line("seen", "log size " + N(h.seen_size) + ", root " + Base64(h.seen_root.view()));
  out += Line("policy", "version " + N(h.policy_version) + " " + Hex(h.policy_hash.view()).substr(0, 16) + "…");
  out += Line("body_bytes", N(h.body_bytes));
  return out;
}

std::string Epoch(const EpochOpening& o) {
  std::string out = "epoch opening OTO1\n";
  out += Line("reason", std::string(EpochReasonName(o.reason)));
  out += Line("log", o.origin);
  out += Line("previous", o.previous_epoch == 0 ? "none" : "epoch " + N(o.previous_epoch) + ", batch " + N(o.previous_batch_seq) + ", last sequence " + N(o.previous_last_seq));
  out += Line("executable", Hex(o.executable.view()));
  out += Line("config", Hex(o.config.view()));
  out += Line("certificate", o.cert_serial);
  out += Line("clock", o.clock_source + (o.clock_synchronised ? ", synchronised" : ", not synchronised"));
  out += Line("keys", N(o.keys.size()) + " one-time keys, root " + Hex(KeyTreeRoot(o.keys).view()));
  return out;
}

absl::StatusOr<std::string> Control(std::string_view bytes) {
  if (LeafMagic(bytes) == "OTN1") {
    ASSIGN_OR_RETURN(IdentityLeaf leaf, IdentityLeaf::Decode(bytes));
    std::string out = "identity leaf OTN1\n" + Line("act", std::string(ActName(leaf.act))) + Line("when", Ns(leaf.wall_ns));
    out += Line("who", leaf.uri) + Line("uuid", leaf.uuid.ToString()) + Line("approver", leaf.approver);
    if (!leaf.token_id.empty()) out += Line("token", leaf.token_id);
    if (!leaf.carries.empty()) out += Line("carries", leaf.carries);
    if (!leaf.serial.empty()) out += Line("certificate", leaf.serial + ", SHA-256 " + Hex(leaf.certificate.view()));
    if (!leaf.identity_key.empty()) out += Line("identity key", Hex(leaf.identity_key));
    if (leaf.not_after_ns != 0) out += Line("until", Ns(leaf.not_after_ns));
    if (!leaf.reason.empty()) out += Line("reason", Printable(leaf.reason));
    return out;
  }
  if (LeafMagic(bytes) == "OTV1") {
    ASSIGN_OR_RETURN(EvidenceLeaf leaf, EvidenceLeaf::Decode(bytes));
    return "evidence leaf OTV1\n" + Line("code", leaf.code) + Line("when", Ns(leaf.wall_ns)) + Line("brought by", leaf.uri) +
           Line("detail", Printable(leaf.detail)) + Line("object", N(leaf.object.size()) + " bytes");
  }
  ASSIGN_OR_RETURN(PolicyLeaf leaf, PolicyLeaf::Decode(bytes));
  return "policy leaf OTP1\n" + Line("when", Ns(leaf.wall_ns)) + Lines(leaf.note) + Lines(leaf.body);
}

absl::StatusOr<std::string> Frame(std::string_view bytes) {
  ASSIGN_OR_RETURN(FrameView view, FrameView::Decode(bytes));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(view.entry));
  std::string out = "frame OTF1: " + N(bytes.size()) + " bytes, " +
                    (view.bodies_gone ? std::string("no rows: its bodies are gone\n") : N(view.n_rows) + " rows, " + N(view.packed.size()) + " compressed\n");
  out += Line("leaf hash", Hex(LeafHash(view.entry).view())) + Header(entry.header);
  EpochOpening opening;
  Hash root;
  absl::Status extension = CheckExtension(entry.header, view.extension, &opening, &root);
  out += Line("extension", extension.ok() ? N(view.extension.size()) + " bytes, as signed" : std::string(extension.message()));
  if (extension.ok() && entry.header.kind == BatchKind::kEpochOpen) out += Epoch(opening);
  if (view.bodies_gone) {
    return out + Line("bodies", "gone (" + std::string(TombstoneReasonName(*view.bodies_gone)) + "), with their hashes: events_root cannot be checked");
  }
  ZstdDecompressor zstd;
  ASSIGN_OR_RETURN(Events events, InflateFrame(view, zstd));
  const RowHashes hashes = HashRows(view.batch_key, events.rows);
  absl::Status rows = CheckRows(entry.header, events.rows, hashes);
  out += Line("bodies", rows.ok() ? "as signed" : std::string(rows.message()));
  for (size_t i = 0; i < std::min(events.rows.size(), kRowsShown); ++i) {
    const Row& r = events.rows[i];
    out += "  [" + N(i) + "] seq " + N(r.seq) + " class " + N(r.event_class) + " flags " + N(r.flags) + " " + Ns(r.wall_ns) + " " +
           (r.tombstone ? std::string("(tombstone)") : Printable(r.body.substr(0, 160))) + "\n";
  }
  if (events.rows.size() > kRowsShown) out += "  … " + N(events.rows.size() - kRowsShown) + " more\n";
  return out;
}

absl::StatusOr<std::string> Proof(std::string_view text) {
  ASSIGN_OR_RETURN(EventProof p, EventProof::Decode(text));
  ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(p.batch.entry));
  std::string out = "proof of one record (C2SP tlog-proof@v1)\n";
  out += Line("record", N(p.body.size()) + " bytes: " + Printable(std::string_view(p.body).substr(0, 200)));
  out += Line("where", "event " + N(p.event_index) + " of leaf " + N(p.batch.index)) + Line("captured", Ns(p.prefix.wall_ns));
  out += Line("epoch leaf", N(p.epoch_open.index)) + Line("enrolment", "leaf " + N(p.enrolment.index));
  return out + Header(entry.header) + Lines(p.checkpoint);
}

}  // namespace

absl::StatusOr<std::string> Explain(std::string_view bytes) {
  while (!bytes.empty() && bytes.starts_with("ot1.") && (bytes.back() == '\n' || bytes.back() == ' ')) bytes.remove_suffix(1);
  if (bytes.starts_with("OTF1")) return Frame(bytes);
  if (bytes.starts_with("OTB1")) {
    ASSIGN_OR_RETURN(BatchEntry entry, BatchEntry::Decode(bytes));
    return Line("leaf hash", Hex(LeafHash(bytes).view())) + Header(entry.header);
  }
  if (bytes.starts_with("OTO1")) {
    ASSIGN_OR_RETURN(EpochOpening opening, EpochOpening::Decode(bytes));
    return Epoch(opening);
  }
  if (bytes.starts_with("OTN1") || bytes.starts_with("OTV1") || bytes.starts_with("OTP1")) return Control(bytes);
  if (bytes.starts_with("OTL1")) {
    ASSIGN_OR_RETURN(const RecoveryLeaf leaf, RecoveryLeaf::Decode(bytes));
    return "recovery leaf OTL1\n" + Line("when", Ns(leaf.wall_ns)) + Lines(leaf.note);
  }
  if (bytes.starts_with("OTR2")) {
    ASSIGN_OR_RETURN(const RetentionLeaf leaf, RetentionLeaf::Decode(bytes));
    return "retention leaf OTR2\n" + Line("when", Ns(leaf.wall_ns)) +
           Line("gone", leaf.minimum == 0 ? "nothing: it announces an order" : "bodies of leaves below " + N(leaf.minimum) + ", logged up to " + Ns(static_cast<uint64_t>(leaf.newest_ns))) +
           Lines(leaf.note);
  }
  if (bytes.starts_with("c2sp.org/tlog-proof")) return Proof(bytes);
  if (bytes.starts_with("ot1.")) {
    ASSIGN_OR_RETURN(JoinToken token, JoinToken::Decode(bytes));
    return "join token " + token.Id() + "\n" + Line("trusts", "a CA whose key hashes to " + Hex(token.ca_spki.view())) +
           Line("secret", "not shown; whoever holds this text can join once");
  }
  if (bytes.starts_with("-----BEGIN CERTIFICATE-----")) {
    ASSIGN_OR_RETURN(CertificateFacts f, ReadCertificate(bytes));
    std::string out = "certificate" + std::string(f.is_ca ? " of a CA" : "") + "\n" + Line("serial", f.serial_hex);
    for (const std::string& u : f.uris) out += Line("who", u);
    for (const std::string& d : f.dns) out += Line("name", d);
    out += Line("valid", Rfc3339(f.not_before) + " to " + Rfc3339(f.not_after));
    return out + Line("SHA-256", Hex(f.der_hash.view())) + Line("key SHA-256", Hex(f.spki_hash.view()));
  }
  constexpr std::string_view kLmdbMagic = "\xDE\xC0\xEF\xBE";
  if (bytes.size() >= 4096 && bytes.substr(16, 4) == kLmdbMagic) {
    return std::string("LMDB data file of a ledger or a spool: docs/formats/ledger.md, spool.md\n") +
           Line("look inside", "orgtrail fsck DIR and orgtrail verify ledger DIR, for a ledger");
  }
  if (bytes.starts_with("OTHRUN01")) return std::string("run of the history index: docs/formats/history.md. Derived: it may be deleted, and is rebuilt\n");
  if (bytes.starts_with("orgtrail history ") || bytes.starts_with("orgtrail agent identity ")) return std::string(bytes);
  if (bytes.find("\n\n\xE2\x80\x94 ") != std::string_view::npos) {
    const std::string_view text = bytes.substr(0, bytes.find("\n\n") + 1);
    if (absl::StatusOr<Checkpoint> c = Checkpoint::Decode(text); c.ok()) {
      return "checkpoint (C2SP tlog-checkpoint)\n" + Line("log", c->origin) + Line("size", N(c->size)) + Line("root", Base64(c->root.view()));
    }
    return "signed note\n" + Lines(bytes);
  }
  if (absl::StatusOr<TrustPolicy> trust = TrustPolicy::Decode(bytes); trust.ok() && !trust->logs.empty()) {
    std::string out = "trust policy (C2SP tlog-policy)\n";
    for (const NoteKey& k : trust->logs) out += Line("log", k.Encode());
    return out;
  }
  return absl::InvalidArgumentError(
      "no format of orgtrail's: known are frames, batch entries, epoch objects, identity, evidence, policy, recovery and retention leaves, proofs, signed notes, "
      "checkpoints, trust policies, join tokens and certificates");
}

}  // namespace orgtrail::client
