// LMDB behind types: one environment per directory, one writer by type, read transactions as scopes. The only includer of
// <lmdb.h> is env.cc. Keys are big-endian (common/base/bytes.h), so that order is numeric order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

namespace orgtrail::lmdb {

struct Table {
  unsigned dbi = 0;
};

struct EnvOptions {
  uint64_t map_bytes = 1ull << 40;     // reserved once; sparse. Tests use 64 MiB. 0: the file's size (sealed, read-only)
  bool read_only = false;              // maps the file and 64 GiB for what a writer beside adds meanwhile, never more than map_bytes
  bool immutable = false;              // read-only, and nobody writes it any more: no lock file, no reader slots
  bool no_meta_sync = false;           // derived stores only
  unsigned max_readers = 512;
  std::vector<std::string> tables;     // created when absent (not in read-only mode)
};

class Env;

// Read transaction: a snapshot. Views it returns die with it. At most 1,024 records or 5 ms, never over a wait or an RPC.
class ReadTxn {
 public:
  explicit ReadTxn(const Env& env);    // CHECKs only for what we did wrong (too many readers)
  ~ReadTxn();
  ReadTxn(const ReadTxn&) = delete;
  ReadTxn& operator=(const ReadTxn&) = delete;
  std::optional<std::string_view> Get(Table t, std::string_view key) const;
  // The pages of a large value, once it has been copied, stop counting as this process' memory. They stay in the page cache, and
  // whoever looks again finds them. A write transaction ignores this: what it sees may be its own memory, not the file's.
  void Unmap(std::string_view value) const;

 protected:
  friend class Cursor;
  ReadTxn() = default;
  MDB_txn* txn_ = nullptr;
  bool writes_ = false;
};

// Write transaction: aborts unless committed. MDB_MAP_FULL and ENOSPC come back as ResourceExhausted with the store intact;
// any other failure of Commit leaves the state unknown to us: the caller ends the process and recovery looks.
class WriteTxn : public ReadTxn {
 public:
  static absl::StatusOr<std::unique_ptr<WriteTxn>> Begin(Env& env);
  ~WriteTxn();
  absl::Status Put(Table t, std::string_view key, std::string_view value);
  absl::Status Append(Table t, std::string_view key, std::string_view value);  // key greater than any in the table
  // Room for `size` bytes to be filled by the caller before the next call on this transaction (MDB_RESERVE).
  absl::StatusOr<char*> Reserve(Table t, std::string_view key, size_t size, bool append);
  absl::Status Delete(Table t, std::string_view key);                          // absent is fine
  absl::Status Commit();                                                       // fsynced when it returns ok

 private:
  WriteTxn() = default;
  const std::string* dir_ = nullptr;   // of the Env, for messages
};

class Cursor {
 public:
  Cursor(const ReadTxn& txn, Table t);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  bool First();
  bool Last();
  bool Seek(std::string_view key);     // first key >= key
  bool Next();
  bool Prev();
  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }

 private:
  bool Do(int op);
  MDB_cursor* cursor_ = nullptr;
  std::string_view key_, value_;
};

struct EnvStats {
  uint64_t map_bytes = 0, used_bytes = 0, file_bytes = 0;
  uint64_t oldest_reader_txns = 0;     // how many commits behind the oldest open reader is
  unsigned readers = 0;
};

class Env {
 public:
  // The directory exists; its files are created when absent. FailedPrecondition when this process has it open already (LMDB's
  // locks would break). DataLoss names the file when LMDB says it is damaged or shorter than its pages.
  static absl::StatusOr<std::unique_ptr<Env>> Open(std::string_view dir, const EnvOptions& options);
  ~Env();
  Env(const Env&) = delete;
  // A consistent copy of the newest committed state, without free pages, as DIR/data.mdb; the directory exists and has none. Not fsynced.
  // The store may be in use, also by another process; its file grows by what this snapshot pins meanwhile.
  absl::Status CopyTo(const std::string& dir) const;
  Table table(std::string_view name) const;  // CHECKs that it was listed in options
  EnvStats Stats() const;
  uint64_t UsedBytes() const;          // EnvStats::used_bytes alone, without looking at readers
  const std::string& dir() const { return dir_; }
  MDB_env* raw() const { return env_; }

 private:
  Env() = default;
  std::string dir_;
  uint64_t device_ = 0, inode_ = 0;    // of the directory: what the guard against a second Open remembers
  bool entered_ = false;
  MDB_env* env_ = nullptr;
  std::vector<std::pair<std::string, Table>> tables_;
};

}  // namespace orgtrail::lmdb
