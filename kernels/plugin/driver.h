// The CUDA driver, opened when a kernel is first needed. Building engines and testing the plugin need no driver.
#pragma once

#include "kernels.h"

#include <cuda.h>

#include <string>

namespace hero
{

// Returns the SM of the current context's device: 89 for SM 8.9. On failure returns 0 and gives the reason.
int32_t currentSm(std::string& error);

// Loads the kernel on first use, which must be outside a graph capture. On failure returns null and gives the reason.
CUkernel load(Kernel const& kernel, std::string& error);

// Launches on `stream` without waiting. Returns whether it was launched; if not, gives the reason.
bool launch(CUkernel function, Launch const& launch, void const* const* inputs, void* output, CUstream stream,
    std::string& error);

} // namespace hero
