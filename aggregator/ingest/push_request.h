// A frame as it travels: a PushRequest whose only field is `frame`. Cut out of it and put back in place, so that its megabyte is not copied
// through a parser. Threads: any.
// Bytes    docs/formats/wire.md
#pragma once

#include <string>

namespace orgtrail {

// Leaves the frame alone in `message`. false: it is another message, and untouched.
bool CutFrame(std::string& message);
// The message that it was cut out of.
void WrapFrame(std::string& frame);

}  // namespace orgtrail
