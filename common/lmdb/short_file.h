// A data.mdb that is shorter than its last commit's page count is either cut short or fine: LMDB never writes a page that one
// transaction took and gave back, and such pages may be the file's last. They are fine exactly when the free list names them all.
// This looks at the file by reads instead of through the map, where a missing page is a SIGBUS.
#pragma once

#include <cstdint>

namespace orgtrail::lmdb {

// True when every page from `file_bytes` to `last_page` is in the free list of the newest commit. False also when the free list
// itself cannot be read. `fd` is an open data.mdb that nobody is writing. 64-bit little-endian machines, LMDB 0.9's format.
bool MissingPagesAreFree(int fd, uint64_t file_bytes, uint64_t page_bytes, uint64_t last_page);

}  // namespace orgtrail::lmdb
