// The compiled kernels of this library, and the choice of one for a shape. This file makes no CUDA call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace hero
{

enum class Type : int32_t
{
    kFP16,
    kFP32
};

// The shape and architecture of a compiled kernel. Pointers are 16-byte aligned; channels are a multiple of 16.
struct Kernel
{
    char const* symbol;
    int32_t sm;            // 89 is SM 8.9
    bool exact;            // runs on that SM only; otherwise also on later minor versions of the same major version
    Type type;
    int32_t numHeads;
    int32_t headDim;
    int32_t frames;
    int32_t pairs;         // (token, head) pairs a program
    int32_t threads;       // a program
    int32_t sharedBytes;   // a program
    unsigned char const* cubin;
};

// Generated from the compiler's index by embed.py.
extern Kernel const kKernels[];
extern int32_t const kKernelCount;

// q, k, v, o: contiguous [batch, frames, tokens, channels].
struct Shape
{
    Type type;
    int64_t batch;
    int64_t frames;
    int64_t tokens;
    int64_t channels;
    int32_t numHeads;
};

struct Launch
{
    uint32_t gridX;
    uint32_t threads;
    uint32_t sharedBytes;
    int32_t tokens;
    int32_t batchStride; // elements, of q, k and v alike
    int32_t frameStride;
    int32_t tokenStride;
};

// Returns the reason why no kernel of any architecture takes the shape; empty if one does.
std::string whyUnsupported(Shape const& shape);

// Returns the kernel of the newest architecture up to `sm` that runs on `sm`; null if there is none.
Kernel const* findKernel(Shape const& shape, int32_t sm);

// Returns nothing for a shape that exceeds the limit of a grid or of a 32-bit stride.
std::optional<Launch> launchOf(Kernel const& kernel, Shape const& shape);

} // namespace hero
