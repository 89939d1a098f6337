#include "aggregator/ledger/backup.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "aggregator/ledger/fsck.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/shard.h"
#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace orgtrail {
namespace {

constexpr std::string_view kMagic = "orgtrail-backup 1";
constexpr size_t kPiece = 1 << 20;
constexpr size_t kManifestBytes = 1 << 20, kOwnFileBytes = 80 << 20;
constexpr uint64_t kMapBytes = 1ull << 40;   // room for what a running aggregator appends meanwhile

struct FileEntry {
  std::string path;               // below the backup's directory
  uint64_t bytes = 0;
  Hash sha256;
  uint64_t tree_size = 0;         // shards: of the tree when it was copied
};

struct Manifest {
  std::string origin, made, checkpoint;
  uint64_t size = 0;
  Hash root;
  std::vector<FileEntry> shards, own;
  std::string Encode() const;
  static absl::StatusOr<Manifest> Decode(const std::string& text);
};

std::string Manifest::Encode() const {
  std::string out = std::string(kMagic) + "\norigin " + origin + "\nmade " + made + "\nsize " + std::to_string(size) + "\nroot " +
                    Base64(root.view()) + "\n";
  const auto add = [&](const char* kind, const FileEntry& f) {
    out += std::string(kind) + " " + f.path + " " + std::to_string(f.bytes) + " " + Hex(f.sha256.view()) + " " + std::to_string(f.tree_size) + "\n";
  };
  for (const FileEntry& f : shards) add("shard", f);
  for (const FileEntry& f : own) add("own", f);
  return out + "\n" + checkpoint;
}

absl::StatusOr<Manifest> Manifest::Decode(const std::string& text) {
  const auto bad = [] { return absl::DataLossError("not a backup's manifest"); };
  Manifest m;
  const size_t gap = text.find("\n\n");
  if (gap == std::string::npos) return bad();
  m.checkpoint = text.substr(gap + 2);
  const std::vector<std::string> lines = absl::StrSplit(text.substr(0, gap), '\n');
  if (lines[0] != kMagic) return bad();
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> w = absl::StrSplit(lines[i], ' ');
    if (w.size() == 2 && w[0] == "origin") {
      m.origin = w[1];
    } else if (w.size() == 2 && w[0] == "made") {
      m.made = w[1];
    } else if (w.size() == 2 && w[0] == "size") {
      if (!absl::SimpleAtoi(w[1], &m.size)) return bad();
    } else if (w.size() == 2 && w[0] == "root") {
      const std::optional<std::string> root = Unbase64(w[1]);
      if (!root || root->size() != 32) return bad();
      m.root = Hash::From(*root);
    } else if (w.size() == 5 && (w[0] == "shard" || w[0] == "own")) {
      FileEntry f;
      f.path = w[1];
      const std::optional<std::string> sha = Unhex(w[3]);
      // A manifest names files of its own directory only.
      if (f.path.empty() || f.path[0] == '/' || f.path.find("..") != std::string::npos || !absl::SimpleAtoi(w[2], &f.bytes) || !sha ||
          sha->size() != 32 || !absl::SimpleAtoi(w[4], &f.tree_size)) {
        return bad();
      }
      f.sha256 = Hash::From(*sha);
      (w[0] == "shard" ? m.shards : m.own).push_back(std::move(f));
    } else {
      return bad();
    }
  }
  if (m.origin.empty() || m.shards.empty()) return bad();
  return m;
}

// Reads a file through, copying it when `out` is a path.
absl::StatusOr<FileEntry> HashFile(Fs& fs, const std::string& path, const std::string& out, uint64_t* done, const BackupProgress& progress) {
  ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  std::unique_ptr<File> copy;
  if (!out.empty()) {
    ASSIGN_OR_RETURN(copy, fs.Open(out, OpenMode::kCreateNew, 0600));
  }
  FileEntry entry;
  Sha256Stream sha;
  std::string piece(kPiece, '\0');
  for (;;) {
    ASSIGN_OR_RETURN(const size_t n, file->ReadAt(entry.bytes, piece.data(), kPiece));
    if (n == 0) break;
    const std::string_view part = std::string_view(piece).substr(0, n);
    sha.Update(part);
    if (copy) RETURN_IF_ERROR(copy->Append(part));
    entry.bytes += n;
    *done += n;
    if (progress) progress(*done);
  }
  if (copy) RETURN_IF_ERROR(copy->Sync());
  entry.sha256 = sha.Finish();
  return entry;
}

struct Head {
  TreeState state;
  std::string origin, note;
  bool sealed = false;
};
absl::StatusOr<Head> HeadOf(const Shard& shard) {
  const lmdb::ReadTxn txn(*shard.env);
  const std::optional<std::string_view> state = txn.Get(shard.meta, kStateKey), origin = txn.Get(shard.meta, kOriginKey);
  if (!state || !origin) return absl::NotFoundError(absl::StrCat("there is no ledger in ", shard.env->dir()));
  Head head;
  ASSIGN_OR_RETURN(head.state, TreeState::Decode(*state));
  head.origin = std::string(*origin);
  head.sealed = txn.Get(shard.meta, kSealKey).has_value();
  if (const auto note = txn.Get(shard.meta, kNoteKey); note.has_value() && note->size() > 8) head.note = std::string(note->substr(8));
  return head;
}

// Its file below the state directory and the backup's: a repacked shard lies one directory deeper.
std::string ShardPath(const Shard& shard, const std::string& ledger_dir) {
  return JoinPath(JoinPath("ledger", shard.env->dir().substr(ledger_dir.size() + 1)), "data.mdb");
}

// The newest may be written meanwhile; so may the one before it, when its seal is not there yet.
absl::StatusOr<Shard> OpenShard(const std::string& dir, bool newest) {
  if (!newest) {
    absl::StatusOr<Shard> sealed = Shard::OpenSealed(dir);
    if (sealed.ok()) return sealed;
  }
  return Shard::Open(dir, kMapBytes, /*read_only=*/true);
}

absl::StatusOr<Manifest> ReadManifest(Fs& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(fs, path, kManifestBytes));
  absl::StatusOr<Manifest> m = Manifest::Decode(text);
  return m.ok() ? std::move(m) : Annotate(m.status(), path);
}

// What a copied ledger says of itself must be what was meant to be copied.
absl::Status CheckCopy(const std::string& ledger_dir, const Manifest& m, Fs& fs, const Clock& clock) {
  LedgerOptions options;
  options.dir = ledger_dir;
  options.read_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<Ledger> ledger, Ledger::Open(options, m.origin, nullptr, fs, clock));
  const SignedHead head = ledger->head();
  if (head.size != m.size || head.root != m.root) return absl::DataLossError(absl::StrCat("the copy in ", ledger_dir, " is not what was copied"));
  return absl::OkStatus();
}

BackupFacts FactsOf(const Manifest& m) { return BackupFacts{m.origin, m.size, m.root, m.checkpoint, m.shards.size(), 0, 0}; }

}  // namespace

absl::StatusOr<BackupFacts> Backup(const std::string& state_dir, const std::string& to, Fs& fs, const Clock& clock,
                                   const BackupProgress& progress) {
  const std::string ledger_dir = JoinPath(state_dir, "ledger"), manifest_path = JoinPath(to, "manifest"), next_path = manifest_path + ".next";
  if (!fs.Facts(ledger_dir).ok()) {
    return absl::NotFoundError(absl::StrCat("there is no ledger in ", ledger_dir, ": give the aggregator's state_dir"));
  }
  RETURN_IF_ERROR(fs.MakeDirs(JoinPath(to, "own"), 0700));
  std::optional<Manifest> old;
  for (const std::string& path : {next_path, manifest_path}) {
    absl::StatusOr<Manifest> read = ReadManifest(fs, path);
    if (read.ok() && !old) old = *std::move(read);
    if (!read.ok() && !absl::IsNotFound(read.status())) return read.status();
  }
  Manifest m;
  m.made = Rfc3339(clock.Wall());
  BackupFacts facts;
  uint64_t done = 0;
  // First: what the journal holds may be logged a moment later, and twice is better than not at all.
  std::vector<std::pair<std::string, std::string>> own;
  for (const char* name : {"identity.pem", "uuid", "policy-logged", "journal.ndjson", "journal.replay"}) {
    absl::StatusOr<std::string> bytes = ReadFile(fs, JoinPath(JoinPath(state_dir, "own"), name), kOwnFileBytes);
    if (absl::IsNotFound(bytes.status())) continue;
    RETURN_IF_ERROR(bytes.status());
    m.own.push_back(FileEntry{absl::StrCat("own/", name), bytes->size(), Sha256(*bytes), 0});
    own.emplace_back(JoinPath(to, m.own.back().path), *std::move(bytes));
  }
  std::vector<std::pair<std::string, std::string>> replace;   // copy, its place
  const std::vector<FileEntry> before = old ? old->shards : std::vector<FileEntry>();
  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, ListShards(fs, ledger_dir));
  for (const uint32_t n : numbers) {
    const bool newest = n == numbers.back();
    ASSIGN_OR_RETURN(Shard shard, OpenShard(ShardDir(ledger_dir, n), newest));
    ASSIGN_OR_RETURN(Head head, HeadOf(shard));
    const std::string path = ShardPath(shard, ledger_dir), place = JoinPath(to, path);
    if (old && old->origin != head.origin) {
      return absl::FailedPreconditionError(absl::StrCat(to, " holds a backup of log ", old->origin, ", this is ", head.origin, ": choose another directory"));
    }
    const FileEntry* kept = nullptr;
    for (const FileEntry& f : before) {
      if (f.path == path && f.tree_size == head.state.size) kept = &f;
      if (f.path == path && f.tree_size > head.state.size) {
        return absl::FailedPreconditionError(absl::StrCat(to, " holds a newer backup (", f.tree_size, " leaves) than ", state_dir, " has (",
                                                          head.state.size, "): choose another directory"));
      }
    }
    if (kept != nullptr && fs.Facts(place).ok()) {
      ASSIGN_OR_RETURN(FileEntry there, HashFile(fs, place, "", &done, progress));
      if (there.bytes == kept->bytes && there.sha256 == kept->sha256) {
        facts.kept_bytes += there.bytes;
        m.shards.push_back(*kept);
        if (newest) m.size = head.state.size, m.root = head.state.root, m.origin = head.origin, m.checkpoint = head.note;
        continue;
      }
    }
    const std::string part = DirName(place) + ".part";
    fs.Remove(JoinPath(part, "data.mdb")).IgnoreError();   // of a run that was interrupted
    fs.Remove(JoinPath(part, "lock.mdb")).IgnoreError();
    RETURN_IF_ERROR(fs.MakeDirs(part, 0700));
    RETURN_IF_ERROR(fs.MakeDirs(DirName(place), 0700));
    RETURN_IF_ERROR(shard.env->CopyTo(part));
    {
      ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(JoinPath(part, "data.mdb"), OpenMode::kAppend, 0600));
      RETURN_IF_ERROR(file->Sync());
      ASSIGN_OR_RETURN(const Shard copy, Shard::Open(part, 0, /*read_only=*/true));
      ASSIGN_OR_RETURN(head, HeadOf(copy));   // of the snapshot that was copied
    }
    if (newest && head.sealed) return absl::UnavailableError("the ledger went on in another shard meanwhile: run the backup again");
    fs.Remove(JoinPath(part, "lock.mdb")).IgnoreError();
    ASSIGN_OR_RETURN(FileEntry entry, HashFile(fs, JoinPath(part, "data.mdb"), "", &done, progress));
    entry.path = path;
    entry.tree_size = head.state.size;
    facts.copied_bytes += entry.bytes;
    m.shards.push_back(std::move(entry));
    replace.emplace_back(JoinPath(part, "data.mdb"), place);
    if (newest) m.size = head.state.size, m.root = head.state.root, m.origin = head.origin, m.checkpoint = head.note;
  }
  RETURN_IF_ERROR(WriteFileAtomically(fs, next_path, m.Encode(), 0600));
  for (const auto& [path, bytes] : own) RETURN_IF_ERROR(WriteFileAtomically(fs, path, bytes, 0600));
  for (const auto& [from, place] : replace) {
    RETURN_IF_ERROR(fs.Rename(from, place, Fsync::kYes));
    fs.Remove(DirName(from)).IgnoreError();
  }
  // What a shard was before it was repacked is not part of this backup any more.
  for (const FileEntry& f : before) {
    const bool named = std::any_of(m.shards.begin(), m.shards.end(), [&](const FileEntry& now) { return now.path == f.path; });
    if (!named) fs.Remove(JoinPath(to, f.path)).IgnoreError();   // or it is gone already
  }
  RETURN_IF_ERROR(CheckCopy(JoinPath(to, "ledger"), m, fs, clock));
  FsckOptions check;
  check.dir = JoinPath(to, "ledger");
  check.records = false;
  check.max_findings = 1;
  check.map_bytes = 0;
  std::vector<Finding> findings;
  FsckTotals totals;
  RETURN_IF_ERROR(Fsck(check, [](uint64_t, uint64_t) {}, &findings, &totals));
  if (!findings.empty()) {
    return absl::DataLossError(absl::StrCat("what was copied is damaged: ", findings[0].file, ": ", findings[0].what,
                                            ". Run orgtrail fsck ", ledger_dir, ": the ledger itself may be"));
  }
  RETURN_IF_ERROR(fs.Rename(next_path, manifest_path, Fsync::kYes));
  BackupFacts made = FactsOf(m);
  made.copied_bytes = facts.copied_bytes;
  made.kept_bytes = facts.kept_bytes;
  return made;
}

absl::StatusOr<BackupFacts> Restore(const std::string& from, const std::string& state_dir, Fs& fs, const Clock& clock,
                                    const BackupProgress& progress) {
  for (const char* name : {"ledger", "anchor", "own/identity.pem", "recovery.note"}) {
    if (fs.Facts(JoinPath(state_dir, name)).ok()) {
      return absl::AlreadyExistsError(absl::StrCat(JoinPath(state_dir, name), " is there: nothing is overwritten. Move ", state_dir,
                                                   " away (its anchor/head is evidence: give it as --lost), or choose another place"));
    }
  }
  const std::string part = JoinPath(state_dir, "ledger.part");
  if (fs.Facts(part).ok()) return absl::AlreadyExistsError(absl::StrCat(part, " is of a restore that did not end: remove it and restore again"));
  // A backup that was interrupted between the copy and its last step has both manifests: the one that fits counts.
  absl::Status last = absl::NotFoundError(absl::StrCat("there is no backup in ", from));
  for (const char* name : {"manifest.next", "manifest"}) {
    absl::StatusOr<Manifest> m = ReadManifest(fs, JoinPath(from, name));
    if (!m.ok()) {
      if (!absl::IsNotFound(m.status())) last = m.status();
      continue;
    }
    uint64_t done = 0;
    last = [&]() -> absl::Status {
      for (const FileEntry& f : m->shards) {
        const std::string place = JoinPath(part, f.path.substr(f.path.find('/') + 1));
        RETURN_IF_ERROR(fs.MakeDirs(DirName(place), 0700));
        fs.Remove(place).IgnoreError();    // the other manifest's attempt
        ASSIGN_OR_RETURN(const FileEntry copied, HashFile(fs, JoinPath(from, f.path), place, &done, progress));
        if (copied.bytes != f.bytes || copied.sha256 != f.sha256) {
          return absl::DataLossError(absl::StrCat(JoinPath(from, f.path), " is not what ", name, " says: this backup is damaged; use another"));
        }
        RETURN_IF_ERROR(fs.SyncDir(DirName(place)));
      }
      return CheckCopy(part, *m, fs, clock);
    }();
    if (!last.ok()) continue;
    RETURN_IF_ERROR(fs.MakeDirs(JoinPath(state_dir, "own"), 0700));
    for (const FileEntry& f : m->own) {
      ASSIGN_OR_RETURN(const std::string bytes, ReadFile(fs, JoinPath(from, f.path), kOwnFileBytes));
      if (Sha256(bytes) != f.sha256) return absl::DataLossError(absl::StrCat(JoinPath(from, f.path), " is not what ", name, " says"));
      RETURN_IF_ERROR(WriteFileAtomically(fs, JoinPath(state_dir, f.path), bytes, 0600));
    }
    for (uint32_t n = 1; n <= m->shards.size(); ++n) fs.Remove(JoinPath(ShardDir(part, n), "lock.mdb")).IgnoreError();
    RETURN_IF_ERROR(fs.Rename(part, JoinPath(state_dir, "ledger"), Fsync::kYes));
    BackupFacts facts = FactsOf(*m);
    facts.copied_bytes = done;
    return facts;
  }
  return last;
}

}  // namespace orgtrail
