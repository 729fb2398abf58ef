// The CUDA driver, opened when a kernel is first needed: engines are built, and the plugin tested, where there is none.
#pragma once

#include "kernels.h"

#include <cuda.h>

#include <string>

namespace hero
{

// SM of the current context's device, as 89 for SM 8.9. On failure returns 0 and says why.
int32_t currentSm(std::string& error);

// Loads the kernel on first use; not to be called first inside a graph capture. Null on failure, and says why.
CUkernel load(Kernel const& kernel, std::string& error);

// Asynchronous on `stream`. Returns whether it was launched, and says why not.
bool launch(CUkernel function, Launch const& launch, void const* const* inputs, void* output, CUstream stream,
    std::string& error);

} // namespace hero
