#include "common/crypto/idle_tls.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <memory>

#include "common/crypto/openssl.h"

namespace orgtrail {
namespace {

using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using Connection = std::unique_ptr<SSL, Freed<SSL_free>>;

TEST(IdleTls, BelongsToEveryLaterContextWhoeverMakesIt) {
  const Context before(SSL_CTX_new(TLS_method()));
  EXPECT_EQ(SSL_CTX_get_mode(before.get()) & SSL_MODE_RELEASE_BUFFERS, 0);
  ReleaseIdleTlsBuffers();
  const Context after(SSL_CTX_new(TLS_method()));
  EXPECT_NE(SSL_CTX_get_mode(after.get()) & SSL_MODE_RELEASE_BUFFERS, 0);
  EXPECT_NE(SSL_CTX_get_mode(after.get()) & SSL_MODE_AUTO_RETRY, 0);   // what it had of its own stays
  const Connection connection(SSL_new(after.get()));
  EXPECT_NE(SSL_get_mode(connection.get()) & SSL_MODE_RELEASE_BUFFERS, 0);
}

}  // namespace
}  // namespace orgtrail
