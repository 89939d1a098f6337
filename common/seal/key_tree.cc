// Seeds of one-time keys live in pages that are locked, left out of core dumps and wiped in a forked child; nowhere else.
#include <sys/mman.h>

#include <bitset>

#include "common/base/limits.h"
#include "common/base/mutant.h"
#include "common/base/status.h"
#include "common/format/epoch.h"
#include "common/seal/sealer.h"

namespace orgtrail {
namespace {

constexpr size_t kSeedBytes = 32;
constexpr size_t kSeedsBytes = limits::kTreeSlots * kSeedBytes;

void Wipe(char* p, size_t n) {
  std::memset(p, 0, n);
  __asm__ __volatile__("" : : "r"(p) : "memory");  // the bytes are observed: the store may not be dropped
}

class SeedPages {
 public:
  SeedPages() {
    void* p = ::mmap(nullptr, kSeedsBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    pages_ = static_cast<char*>(p);
    // A machine that grants no locked memory (RLIMIT_MEMLOCK) still signs: losing the trail would be worse than a seed in
    // swap. Being left out of dumps and forks is never refused.
    locked_ = ::mlock(pages_, kSeedsBytes) == 0;
    CHECK(::madvise(pages_, kSeedsBytes, MADV_DONTDUMP) == 0);
    CHECK(::madvise(pages_, kSeedsBytes, MADV_WIPEONFORK) == 0);
  }
  ~SeedPages() {
    Wipe(pages_, kSeedsBytes);
    if (locked_) ::munlock(pages_, kSeedsBytes);
    ::munmap(pages_, kSeedsBytes);
  }
  SeedPages(const SeedPages&) = delete;
  SeedPages& operator=(const SeedPages&) = delete;
  char* At(uint32_t slot) { return pages_ + slot * kSeedBytes; }

 private:
  char* pages_;
  bool locked_;
};

}  // namespace

struct KeyTree::Impl {
  SeedPages seeds;
  std::vector<PublicKey> keys;
  Hash root;
  std::bitset<limits::kTreeSlots> used;  // signed with, or erased
};

KeyTree::KeyTree(Rng& rng) : impl_(std::make_unique<Impl>()) {
  rng.Fill(impl_->seeds.At(0), kSeedsBytes);
  impl_->keys.reserve(limits::kTreeSlots);
}

KeyTree::~KeyTree() = default;

bool KeyTree::Grow(uint32_t keys) {
  Impl& t = *impl_;
  if (t.keys.size() == limits::kTreeSlots) return true;
  for (; keys > 0 && t.keys.size() < limits::kTreeSlots; --keys) {
    const auto slot = static_cast<uint32_t>(t.keys.size());
    t.keys.push_back(SigningKey::FromSeed(std::string_view(t.seeds.At(slot), kSeedBytes)).public_key());
  }
  if (t.keys.size() < limits::kTreeSlots) return false;
  t.root = KeyTreeRoot(t.keys);
  return true;
}

const std::vector<PublicKey>& KeyTree::keys() const { return impl_->keys; }

const Hash& KeyTree::root() const {
  CHECK(impl_->keys.size() == limits::kTreeSlots);
  return impl_->root;
}

Signature KeyTree::SignOnce(uint32_t slot, std::string_view label, std::string_view message) {
  CHECK(slot < impl_->keys.size());
  CHECK(!impl_->used[slot] || Planted(Mutant::kReusedSlot));
  impl_->used[slot] = true;
  return SigningKey::FromSeed(std::string_view(impl_->seeds.At(slot), kSeedBytes)).Sign(label, message);
}

void KeyTree::Erase(uint32_t slot) {
  CHECK(slot < limits::kTreeSlots);
  impl_->used[slot] = true;
  Wipe(impl_->seeds.At(slot), kSeedBytes);
}

}  // namespace orgtrail
