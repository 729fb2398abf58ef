#include "kernels.h"

#include <algorithm>
#include <limits>

namespace hero
{
namespace
{

bool takes(Kernel const& kernel, Shape const& shape)
{
    return kernel.type == shape.type && kernel.numHeads == shape.numHeads && kernel.frames == shape.frames
        && int64_t{kernel.numHeads} * kernel.headDim == shape.channels;
}

bool runsOn(Kernel const& kernel, int32_t sm)
{
    return kernel.exact ? kernel.sm == sm : kernel.sm / 10 == sm / 10 && kernel.sm <= sm;
}

} // namespace

std::string whyUnsupported(Shape const& shape)
{
    if (std::any_of(kKernels, kKernels + kKernelCount, [&](Kernel const& kernel) { return takes(kernel, shape); }))
    {
        return {};
    }
    return "no kernel was compiled for " + std::to_string(shape.frames) + " frames, " + std::to_string(shape.channels)
        + " channels in " + std::to_string(shape.numHeads)
        + " heads; add it to hero_kernels.temporal_attention_im3.aot.PRESETS and rebuild, or build without the plugin";
}

Kernel const* findKernel(Shape const& shape, int32_t sm)
{
    Kernel const* best = nullptr;
    for (int32_t i = 0; i < kKernelCount; ++i)
    {
        Kernel const& kernel = kKernels[i];
        if (takes(kernel, shape) && runsOn(kernel, sm) && (best == nullptr || kernel.sm > best->sm))
        {
            best = &kernel;
        }
    }
    return best;
}

std::optional<Launch> launchOf(Kernel const& kernel, Shape const& shape)
{
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
    int64_t const frameStride = shape.tokens * shape.channels;
    int64_t const batchStride = shape.frames * frameStride;
    int64_t const pairs = shape.tokens * kernel.numHeads;
    int64_t const programs = shape.batch * ((pairs + kernel.pairs - 1) / kernel.pairs);
    if (shape.tokens < 1 || shape.batch < 1 || batchStride > kMax || pairs > kMax || programs > kMax)
    {
        return std::nullopt;
    }
    return Launch{static_cast<uint32_t>(programs), static_cast<uint32_t>(kernel.threads),
        static_cast<uint32_t>(kernel.sharedBytes), static_cast<int32_t>(shape.tokens),
        static_cast<int32_t>(batchStride), static_cast<int32_t>(frameStride), static_cast<int32_t>(shape.channels)};
}

} // namespace hero
