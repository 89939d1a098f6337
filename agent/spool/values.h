// Keys and values of the spool's tables: bytes only, no I/O. docs/formats/spool.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/spool/spool.h"

namespace orgtrail {

// Every value is u8 version (1) || u32 CRC-32C of (key || payload) || payload: a value under the wrong key does not check either.
// Unwrap is DataLoss when the sum differs or only the version does, FailedPrecondition when a newer release wrote the value.
std::string Wrap(std::string_view key, std::string_view payload);
absl::StatusOr<std::string_view> Unwrap(std::string_view key, std::string_view value);
inline constexpr size_t kValueHead = 5;
inline constexpr size_t kReplyTimeAt = kValueHead;     // a reply's payload: u64 stored_ns || reply

// A batch's entry and extension, kept apart from its frame: u16 n, entry(n), extension.
std::string EncodeEntry(std::string_view key, const SignedEntry& signed_entry);
absl::StatusOr<SignedEntry> DecodeEntry(std::string_view key, std::string_view value);

inline constexpr std::string_view kCountersKey = "counters", kTailKey = "tail", kPinKey = "pin", kBranchesKey = "branches";

std::string EncodeKey(BatchKey key);                   // u64 epoch || u64 batch_seq
BatchKey DecodeKey(std::string_view sixteen);
BatchKey Following(BatchKey key);                      // the least key greater than it

// A batch's payload: u64 stored_ns || frame.
inline constexpr size_t kBatchValueHead = kValueHead + 8;
void FillBatchValue(char* out, std::string_view key, absl::Time stored, std::string_view frame);
absl::StatusOr<std::string_view> CheckBatchValue(std::string_view key, std::string_view value);  // the frame
absl::Time StoredTime(std::string_view batch_value);   // unchecked: used for age only

// What a value of this size takes in LMDB's file: whole pages beyond half a page, else itself and its node.
uint64_t DiskCost(uint64_t value_bytes);

struct SpoolCounters {
  BatchKey last, acked_through;
  uint64_t unacked_batches = 0, unacked_bytes = 0, stored_bytes = 0, replies = 0;   // bytes as DiskCost counts
  std::string Encode() const;
  static absl::StatusOr<SpoolCounters> Decode(std::string_view value);
};

std::string EncodeTail(const SealedBatch& last);
absl::StatusOr<SpoolTail> DecodeTail(std::string_view value);
std::string EncodePin(const Pin& pin);
absl::StatusOr<Pin> DecodePin(std::string_view value);
std::string EncodeBranches(const std::vector<Branch>& branches);
absl::StatusOr<std::vector<Branch>> DecodeBranches(std::string_view value);
std::string EncodePosition(const FilePosition& position);
absl::StatusOr<FilePosition> DecodePosition(std::string_view key, std::string_view value);

}  // namespace orgtrail
