// DiskFaults: the disk of one program under test. Give `environment()` to the program, Arm it, and look what happened.
// Threads: one. Errors: what cannot be set up throws (tests/e2e/support/process.h).
#pragma once

#include <string>
#include <vector>

#include "tests/e2e/support/process.h"
#include "tests/fault/fault_block.h"

namespace orgtrail::fault {

class DiskFaults {
 public:
  // `block_file` is made; `directory`: whose files count (an absolute path).
  DiskFaults(const std::string& block_file, const std::string& directory);
  ~DiskFaults();
  DiskFaults(const DiskFaults&) = delete;

  e2e::Environment environment() const;
  bool attached() const { return block_->attached != 0; }   // the running program really has it
  void Arm(Kind kind, uint32_t nth);                        // counts from here; nth 0: only counts
  void Disarm() { block_->armed = 0; }
  bool armed() const { return block_->armed != 0; }
  uint32_t calls() const { return block_->calls; }
  uint32_t hits() const { return block_->hits; }
  // What was called since Arm, at most FaultBlock::kTrace.
  std::vector<FaultBlock::Step> trace() const;

 private:
  std::string file_;
  FaultBlock* block_ = nullptr;
};

const char* Name(Kind kind);
const char* Name(Call call);
std::string Describe(const FaultBlock::Step& step);

}  // namespace orgtrail::fault
