// The functions that TensorRT looks up in a plugin library (IPluginRegistry::loadLibrary, trtexec --dynamicPlugins).
#include "plugin.h"

#include <atomic>
#include <iostream>

namespace
{
std::atomic<nvinfer1::ILoggerFinder*> gLoggerFinder{nullptr};
} // namespace

void hero::logError(std::string const& message) noexcept
{
    std::string const line = std::string(kNamespace) + "::" + kName + ": " + message;
    nvinfer1::ILoggerFinder* finder = gLoggerFinder.load();
    nvinfer1::ILogger* logger = finder != nullptr ? finder->findLogger() : nullptr;
    if (logger != nullptr)
    {
        logger->log(nvinfer1::ILogger::Severity::kERROR, line.c_str());
    }
    else
    {
        std::cerr << line << '\n';
    }
}

extern "C" __attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder* finder)
{
    gLoggerFinder.store(finder);
}

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const* getCreators(
    int32_t& count)
{
    static hero::Creator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}
