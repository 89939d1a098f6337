// Shards as people are shown them: by `orgtrail status` and by `orgtrail inspect` of a ledger. Pure.
#pragma once

#include <span>
#include <string>

#include "aggregator/ledger/ledger.h"

namespace orgtrail::client {

// "4: 3 sealed, 2 of them repacked; 1.2 GiB; leaves 0 to 10,499"
std::string ShardsLine(std::span<const ShardFacts> shards);
// One a line, as a table.
std::string ShardsTable(std::span<const ShardFacts> shards, bool color);
std::string ShardsJson(std::span<const ShardFacts> shards);   // an array

}  // namespace orgtrail::client
