// What an idle TLS connection keeps: nothing that is there only for the next record.
#pragma once

namespace orgtrail {

// From here on every TLS context of this process, also those of libraries that make their own, gives the two record buffers of a
// connection (17 KiB each) back when they are empty. Once in main, before any connection. A fleet's streams are idle most of the time.
void ReleaseIdleTlsBuffers();

}  // namespace orgtrail
