#include "driver.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace hero
{
namespace
{

struct Driver
{
    decltype(&cuCtxGetDevice) ctxGetDevice{};
    decltype(&cuDeviceGetAttribute) deviceGetAttribute{};
    decltype(&cuLibraryLoadData) libraryLoadData{};
    decltype(&cuLibraryGetKernel) libraryGetKernel{};
    decltype(&cuLaunchKernel) launchKernel{};
    decltype(&cuGetErrorString) getErrorString{};
    std::string missing;

    template <typename Function>
    void find(void* library, char const* name, Function& function)
    {
        function = reinterpret_cast<Function>(dlsym(library, name));
        if (function == nullptr && missing.empty())
        {
            missing = std::string("the CUDA driver has no ") + name + "; update it to CUDA 12 or later";
        }
    }

    Driver()
    {
        void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr)
        {
            missing = "libcuda.so.1 cannot be opened; this machine has no NVIDIA driver";
            return;
        }
        find(library, "cuCtxGetDevice", ctxGetDevice);
        find(library, "cuDeviceGetAttribute", deviceGetAttribute);
        find(library, "cuLibraryLoadData", libraryLoadData);
        find(library, "cuLibraryGetKernel", libraryGetKernel);
        find(library, "cuLaunchKernel", launchKernel);
        find(library, "cuGetErrorString", getErrorString);
    }

    bool failed(CUresult result, char const* what, std::string& error) const
    {
        if (result == CUDA_SUCCESS)
        {
            return false;
        }
        char const* text = nullptr;
        getErrorString(result, &text);
        error = std::string(what) + " failed: " + (text != nullptr ? text : "unknown error");
        return true;
    }
};

Driver const* driver(std::string& error)
{
    static Driver const instance;
    error = instance.missing;
    return instance.missing.empty() ? &instance : nullptr;
}

} // namespace

int32_t currentSm(std::string& error)
{
    Driver const* cuda = driver(error);
    CUdevice device{};
    int major = 0;
    int minor = 0;
    if (cuda == nullptr || cuda->failed(cuda->ctxGetDevice(&device), "cuCtxGetDevice", error)
        || cuda->failed(cuda->deviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device),
            "cuDeviceGetAttribute", error)
        || cuda->failed(cuda->deviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device),
            "cuDeviceGetAttribute", error))
    {
        return 0;
    }
    return major * 10 + minor;
}

CUkernel load(Kernel const& kernel, std::string& error)
{
    // a library belongs to the process, so one entry serves every engine and device of an SM
    static std::mutex mutex;
    static std::map<Kernel const*, CUkernel> loaded;
    Driver const* cuda = driver(error);
    if (cuda == nullptr)
    {
        return nullptr;
    }
    std::lock_guard<std::mutex> const lock(mutex);
    auto const known = loaded.find(&kernel);
    if (known != loaded.end())
    {
        return known->second;
    }
    CUlibrary library{};
    CUkernel function{};
    if (cuda->failed(cuda->libraryLoadData(&library, kernel.cubin, nullptr, nullptr, 0, nullptr, nullptr, 0),
            "cuLibraryLoadData", error)
        || cuda->failed(cuda->libraryGetKernel(&function, library, kernel.symbol), "cuLibraryGetKernel", error))
    {
        return nullptr;
    }
    loaded.emplace(&kernel, function);
    return function;
}

bool launch(CUkernel function, Launch const& launch, void const* const* inputs, void* output, CUstream stream,
    std::string& error)
{
    Driver const* cuda = driver(error);
    if (cuda == nullptr)
    {
        return false;
    }
    // in the order of hero_kernels.temporal_attention_im3.aot.PARAMETERS
    void const* q = inputs[0];
    void const* k = inputs[1];
    void const* v = inputs[2];
    void const* alpha = inputs[3];
    int32_t tokens = launch.tokens;
    int32_t batch = launch.batchStride;
    int32_t frame = launch.frameStride;
    int32_t token = launch.tokenStride;
    void* parameters[] = {
        &q, &k, &v, &alpha, &tokens, &batch, &frame, &token, &batch, &frame, &token, &batch, &frame, &token, &output};
    return !cuda->failed(cuda->launchKernel(reinterpret_cast<CUfunction>(function), launch.gridX, 1, 1, launch.threads,
                             1, 1, launch.sharedBytes, stream, parameters, nullptr),
        "cuLaunchKernel", error);
}

} // namespace hero
