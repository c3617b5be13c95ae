// Results must not depend on what the host did to its floating-point environment.
#pragma once

#include <cfenv>

namespace flexq {

// IEEE defaults (round to nearest even, subnormals kept, no traps) for the calling thread until the
// end of the scope; then the host's own environment again. Pool workers have the defaults always.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() {
    fegetenv(&host_);
    fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatingPoint() { fesetenv(&host_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
  fenv_t host_;
};

}  // namespace flexq
