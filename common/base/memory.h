// Memory: how the process gets it from the system.
#pragma once

#include <malloc.h>

namespace orgtrail {

// glibc keeps up to eight heaps a core, so that threads do not wait for one another, and what is freed in one is of no use to the
// others: megabytes that a stage hands to the next then exist several times. Our threads allocate a few large pieces a batch,
// so two heaps do: a third less memory under load, and fewer page faults. Call before the first thread.
inline void KeepFewHeaps() { mallopt(M_ARENA_MAX, 2); }

}  // namespace orgtrail
