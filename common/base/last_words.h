// Last words of a process whose mapped file fails: a page that its file no longer has, because somebody cut it short, or that the disk cannot
// read, is a SIGBUS at whatever touches it. There is no answer to give, so the process ends as after a failed CHECK, and says which file it
// was and what to do.
#pragma once

namespace orgtrail {

// From here on a SIGBUS writes one line, "FATAL FILE: …", to standard error and ends the process as abort() does. Call once, before threads.
void NameFilesThatFail();

}  // namespace orgtrail
