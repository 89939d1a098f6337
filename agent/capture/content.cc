#include "agent/capture/content.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "common/base/status.h"

namespace orgtrail {
namespace {

class Plain final : public Content {
 public:
  explicit Plain(File& file) : file_(file) {}
  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override { return file_.ReadAt(offset, out, n); }

 private:
  File& file_;
};

class Gzip final : public Content {
 public:
  explicit Gzip(File& file) : file_(file) {}
  ~Gzip() override { Close(); }

  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t n) override {
    if (!open_ || offset < end_ - window_.size()) RETURN_IF_ERROR(Restart());
    size_t done = 0;
    while (done < n) {
      const uint64_t at = offset + done;
      if (at < end_) {
        const std::string_view have = std::string_view(window_).substr(window_.size() - static_cast<size_t>(end_ - at));
        const size_t take = std::min(have.size(), n - done);
        std::memcpy(out + done, have.data(), take);
        done += take;
        continue;
      }
      if (finished_) break;
      if (!failed_.ok()) {
        if (done > 0) break;
        return failed_;
      }
      RETURN_IF_ERROR(Inflate());
    }
    return done;
  }

 private:
  static constexpr size_t kInput = 64 << 10, kOutput = 256 << 10, kWindow = 2 << 20;

  void Close() {
    if (open_) inflateEnd(&z_);
    open_ = false;
  }

  absl::Status Restart() {
    Close();
    z_ = {};
    if (inflateInit2(&z_, 15 + 16) != Z_OK) return absl::ResourceExhaustedError("zlib: out of memory");
    open_ = true;
    input_.resize(kInput);
    window_.clear();
    end_ = read_ = members_ = 0;
    finished_ = in_member_ = false;
    failed_ = absl::OkStatus();
    return absl::OkStatus();
  }

  // One step: some more bytes into the window, the end, or failed_. An error of the file itself is returned and may
  // pass.
  absl::Status Inflate() {
    if (z_.avail_in == 0) {
      ASSIGN_OR_RETURN(const size_t got, file_.ReadAt(read_, input_.data(), input_.size()));
      read_ += got;
      z_.next_in = reinterpret_cast<Bytef*>(input_.data());
      z_.avail_in = static_cast<uInt>(got);
      if (got == 0) {
        if (in_member_ || read_ == 0) {
          failed_ = absl::DataLossError("gzip: the file ends in the middle");
        } else {
          finished_ = true;
        }
        return absl::OkStatus();
      }
    }
    if (!in_member_ && members_ > 0) {   // tape and disk writers pad with zeros; anything else is a member, or damage
      while (z_.avail_in > 0 && *z_.next_in == 0) {
        ++z_.next_in;
        --z_.avail_in;
      }
      if (z_.avail_in == 0) return absl::OkStatus();
    }
    if (window_.size() > kWindow) window_.erase(0, window_.size() - kWindow / 2);
    const size_t before = window_.size();
    window_.resize(before + kOutput);
    z_.next_out = reinterpret_cast<Bytef*>(window_.data() + before);
    z_.avail_out = kOutput;
    in_member_ = true;
    const int rc = inflate(&z_, Z_NO_FLUSH);
    const size_t made = kOutput - z_.avail_out;
    window_.resize(before + made);
    end_ += made;
    if (rc == Z_STREAM_END) {
      in_member_ = false;
      ++members_;
      if (inflateReset(&z_) != Z_OK) failed_ = absl::InternalError("zlib: reset failed");
    } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
      failed_ = absl::DataLossError(absl::StrCat("gzip: ", z_.msg == nullptr ? "damaged" : z_.msg));
    }
    return absl::OkStatus();
  }

  File& file_;
  z_stream z_{};
  bool open_ = false, finished_ = false, in_member_ = false;
  absl::Status failed_;
  std::string input_, window_;  // window_ ends at offset end_ of the inflated content
  uint64_t end_ = 0, read_ = 0, members_ = 0;
};

}  // namespace

std::unique_ptr<Content> PlainContent(File& file) { return std::make_unique<Plain>(file); }
std::unique_ptr<Content> GzipContent(File& file) { return std::make_unique<Gzip>(file); }

}  // namespace orgtrail
