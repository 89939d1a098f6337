// A frame as it travels: a PushRequest whose only field is `frame`. Written and cut out by hand, so that its megabyte is not copied through
// protobuf. Threads: any.
// Bytes    docs/formats/wire.md
#pragma once

#include <cstddef>
#include <string>

namespace orgtrail {

// What stands before a frame of `size` bytes in its message: the field's tag and length.
std::string FramePrefix(size_t size);
// Leaves the frame alone in `message`. false: it is another message, and untouched.
bool CutFrame(std::string& message);

}  // namespace orgtrail
