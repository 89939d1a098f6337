#include "common/crypto/idle_tls.h"

#include <openssl/ssl.h>

#include "common/base/status.h"

namespace orgtrail {
namespace {

// gRPC makes its contexts itself and has no option for this; OpenSSL tells whoever keeps data in contexts of each new one.
void OfNewContext(void* context, void*, CRYPTO_EX_DATA*, int, long, void*) {
  SSL_CTX_set_mode(static_cast<SSL_CTX*>(context), SSL_MODE_RELEASE_BUFFERS);
}

}  // namespace

void ReleaseIdleTlsBuffers() { CHECK(SSL_CTX_get_ex_new_index(0, nullptr, OfNewContext, nullptr, nullptr) >= 0); }

}  // namespace orgtrail
