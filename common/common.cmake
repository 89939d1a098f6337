# What both programs must agree on, and the only doors to the outside.
orgtrail_library(common_base
  SOURCES common/base/check.cc common/base/cidr.cc common/base/clock.cc common/base/ids.cc common/base/last_words.cc common/base/log.cc common/base/nearest.cc common/base/status.cc common/base/text.cc common/base/thread_cpu.cc common/base/worker.cc
  DEPS absl::status absl::statusor absl::strings absl::time absl::flat_hash_map Threads::Threads)
orgtrail_library(common_fs SOURCES common/fs/posix.cc common/fs/file.cc common/fs/map.cc DEPS common_base)
orgtrail_library(common_crypto
  SOURCES common/crypto/digest.cc common/crypto/sha256_pair.cc common/crypto/sign.cc common/crypto/cipher.cc common/crypto/x509.cc common/crypto/server_certificate.cc common/crypto/pin.cc common/crypto/idle_tls.cc
          common/crypto/openssl.cc
  DEPS common_base OpenSSL::SSL OpenSSL::Crypto)
orgtrail_library(common_lmdb SOURCES common/lmdb/env.cc common/lmdb/short_file.cc DEPS common_base common_fs PkgConfig::lmdb)
orgtrail_library(common_merkle SOURCES common/merkle/tree.cc common/merkle/proofs.cc DEPS common_crypto)
orgtrail_library(common_json SOURCES common/json/scanner.cc common/json/fields.cc common/json/padding.cc common/json/members.cc DEPS common_base)
orgtrail_library(common_compress SOURCES common/compress/zstd.cc
  DEPS common_base zstd::libzstd_shared)
orgtrail_library(common_format
  SOURCES common/format/event.cc common/format/batch.cc common/format/epoch.cc common/format/frame.cc common/format/note.cc
          common/format/control.cc common/format/chain.cc common/format/token.cc common/format/proof.cc common/format/audit.cc common/format/quarantine.cc common/format/verify_proof.cc
          common/format/own_record.cc common/format/push_request.cc common/format/recovery.cc common/format/retention.cc
  DEPS common_merkle common_compress common_crypto)
orgtrail_library(common_seal SOURCES common/seal/sealer.cc common/seal/key_tree.cc DEPS common_format)
orgtrail_library(common_http SOURCES common/http/server.cc common/http/request.cc DEPS common_base Boost::headers)
if(ORGTRAIL_SANITIZE MATCHES "thread")  # ThreadSanitizer does not know fences; Asio's locks are enough for it
  target_compile_definitions(common_http PRIVATE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
orgtrail_library(common_http_client SOURCES common/http/client.cc DEPS common_base CURL::libcurl)
orgtrail_library(common_observability SOURCES common/http/observability.cc DEPS common_http common_metrics)
orgtrail_library(common_metrics SOURCES common/metrics/metrics.cc DEPS common_base)
orgtrail_library(common_config SOURCES common/config/yaml.cc DEPS common_base yaml-cpp)
orgtrail_library(common_rpc SOURCES common/rpc/call_limit.cc common/rpc/credentials.cc common/rpc/status.cc DEPS common_crypto orgtrail_proto gRPC::grpc++ absl::synchronization)
orgtrail_library(common_manual SOURCES common/daemon/manual.cc common/daemon/usage.cc DEPS common_base CLI11::CLI11)
orgtrail_library(common_daemon SOURCES common/daemon/daemon.cc DEPS common_manual common_rpc common_fs)
