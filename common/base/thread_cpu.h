// The processor time that the calling thread used, in nanoseconds: what its work costs, however many others want the processor.
#pragma once

#include <cstdint>

namespace orgtrail {

int64_t ThreadCpuNanos();   // a system call, about 0.2 µs

}  // namespace orgtrail
