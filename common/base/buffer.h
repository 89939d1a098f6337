// Buffer: bytes that are about to be overwritten, so growing does not clear them. A megabyte of zeros that nobody reads costs
// as much as hashing a tenth of it. Movable: data() stays where it is. Threads: one.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

namespace orgtrail {

class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)), capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  // `size` bytes of unspecified content. Shrinking keeps the memory.
  char* Reset(size_t size) {
    if (size > capacity_) {
      data_ = std::make_unique_for_overwrite<char[]>(size);
      capacity_ = size;
    }
    size_ = size;
    return data_.get();
  }
  char* data() { return data_.get(); }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace orgtrail
