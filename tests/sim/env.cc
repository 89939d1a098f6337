// The shipped LMDB wrapper, whose commits and opens go through the simulated disk (disk.cc).
#define mdb_txn_commit sim_txn_commit
#define mdb_env_open sim_env_open
#include "common/lmdb/env.cc"
