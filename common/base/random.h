// Rng: the only source of randomness; the system's is OpenSSL's, a simulation passes its own.
#pragma once

#include <cstdint>
#include <string>

namespace orgtrail {

class Rng {
 public:
  virtual ~Rng() = default;
  virtual void Fill(char* out, size_t n) = 0;  // threads: any; never fails (a machine without entropy ends the process)
  std::string Bytes(size_t n) {
    std::string s(n, '\0');
    Fill(s.data(), n);
    return s;
  }
  uint64_t U64() {
    uint64_t v;
    Fill(reinterpret_cast<char*>(&v), sizeof v);
    return v;
  }
  // Uniform in [0, bound); bound > 0. The bias of the modulus is below 2^-32 for any bound used here.
  uint64_t Below(uint64_t bound) { return U64() % bound; }
};

}  // namespace orgtrail
