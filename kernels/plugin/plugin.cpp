#include "plugin.h"

#include <algorithm>

using namespace nvinfer1;

namespace hero
{
namespace
{

constexpr int32_t kInputs = 4; // q, k, v, alpha
constexpr int32_t kAlpha = 3;

bool isMember(DataType type)
{
    return type == DataType::kHALF || type == DataType::kFLOAT;
}

} // namespace

Plugin::Plugin(int32_t numHeads)
    : mNumHeads(numHeads)
    , mField("num_heads", &mNumHeads, PluginFieldType::kINT32, 1)
    , mFields{1, &mField}
{
}

// the field points into the object; the default copy would point into the original
Plugin::Plugin(Plugin const& other)
    : Plugin(other.mNumHeads)
{
    mFunction = other.mFunction;
    mLaunch = other.mLaunch;
}

IPluginCapability* Plugin::getCapabilityInterface(PluginCapabilityType type) noexcept
{
    switch (type)
    {
    case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

IPluginV3* Plugin::clone() noexcept
{
    return new Plugin(*this);
}

Shape Plugin::shapeOf(PluginTensorDesc const& q) const
{
    Type const type = q.type == DataType::kHALF ? Type::kFP16 : Type::kFP32;
    return {type, q.dims.d[0], q.dims.d[1], q.dims.d[2], q.dims.d[3], mNumHeads};
}

int32_t Plugin::configurePlugin(
    DynamicPluginTensorDesc const* in, int32_t nbInputs, DynamicPluginTensorDesc const*, int32_t nbOutputs) noexcept
{
    if (nbInputs != kInputs || nbOutputs != 1 || in[0].desc.dims.nbDims != 4)
    {
        logError("takes q, k, v [B, F, S, C] and alpha [1], gives o; got " + std::to_string(nbInputs)
            + " inputs, the first of " + std::to_string(nbInputs > 0 ? in[0].desc.dims.nbDims : 0) + " dimensions");
        return 1;
    }
    PluginTensorDesc q = in[0].desc;
    q.dims = in[0].max; // batch and tokens may be dynamic; frames and channels may not
    std::string const why = whyUnsupported(shapeOf(q));
    if (!why.empty())
    {
        logError(why);
        return 1;
    }
    return 0;
}

int32_t Plugin::getOutputDataTypes(
    DataType* outputTypes, int32_t nbOutputs, DataType const* inputTypes, int32_t nbInputs) const noexcept
{
    if (nbInputs != kInputs || nbOutputs != 1)
    {
        return 1;
    }
    outputTypes[0] = inputTypes[0];
    return 0;
}

int32_t Plugin::getOutputShapes(DimsExprs const* inputs, int32_t nbInputs, DimsExprs const*, int32_t,
    DimsExprs* outputs, int32_t nbOutputs, IExprBuilder&) noexcept
{
    if (nbInputs != kInputs || nbOutputs != 1)
    {
        return 1;
    }
    outputs[0] = inputs[0];
    return 0;
}

bool Plugin::supportsFormatCombination(
    int32_t pos, DynamicPluginTensorDesc const* inOut, int32_t nbInputs, int32_t nbOutputs) noexcept
{
    if (nbInputs != kInputs || nbOutputs != 1 || pos < 0 || pos > kInputs)
    {
        return false;
    }
    PluginTensorDesc const& tensor = inOut[pos].desc;
    if (tensor.format != TensorFormat::kLINEAR)
    {
        return false;
    }
    return pos == kAlpha ? tensor.type == DataType::kFLOAT
                         : isMember(tensor.type) && tensor.type == inOut[0].desc.type;
}

int32_t Plugin::onShapeChange(
    PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const*, int32_t nbOutputs) noexcept
{
    if (nbInputs != kInputs || nbOutputs != 1)
    {
        return 1;
    }
    Shape const shape = shapeOf(in[0]);
    std::string error;
    int32_t const sm = currentSm(error);
    Kernel const* kernel = sm == 0 ? nullptr : findKernel(shape, sm);
    if (sm != 0 && kernel == nullptr)
    {
        error = whyUnsupported(shape);
        if (error.empty())
        {
            error = "no kernel was compiled for SM " + std::to_string(sm / 10) + "." + std::to_string(sm % 10)
                + "; rebuild the library with it in HERO_ARCHITECTURES";
        }
    }
    if (kernel != nullptr)
    {
        std::optional<Launch> const launch = launchOf(*kernel, shape);
        if (launch)
        {
            mLaunch = *launch;
            mFunction = load(*kernel, error);
            if (mFunction != nullptr)
            {
                return 0;
            }
        }
        else
        {
            error = "a batch row of " + std::to_string(shape.tokens) + " tokens is past 2^31 elements";
        }
    }
    logError(error);
    return 1;
}

int32_t Plugin::enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const* inputs,
    void* const* outputs, void*, cudaStream_t stream) noexcept
{
    std::string error;
    if (mFunction == nullptr || !hero::launch(mFunction, mLaunch, inputs, outputs[0], stream, error))
    {
        logError(error.empty() ? "enqueue came before onShapeChange" : error);
        return 1;
    }
    return 0;
}

IPluginV3* Plugin::attachToContext(IPluginResourceContext*) noexcept
{
    return clone();
}

PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept
{
    return &mFields;
}

Creator::Creator()
    : mField{{"num_heads", nullptr, PluginFieldType::kINT32, 1},
          {"plugin_namespace", nullptr, PluginFieldType::kCHAR, 0},
          {"plugin_version", nullptr, PluginFieldType::kCHAR, 0}}
    , mFields{3, mField}
{
}

IPluginV3* Creator::createPlugin(char const*, PluginFieldCollection const* fields, TensorRTPhase) noexcept
{
    int64_t numHeads = 0;
    for (int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i)
    {
        PluginField const& field = fields->fields[i];
        if (std::string("num_heads") != field.name || field.data == nullptr)
        {
            continue;
        }
        if (field.type == PluginFieldType::kINT32)
        {
            numHeads = *static_cast<int32_t const*>(field.data);
        }
        else if (field.type == PluginFieldType::kINT64)
        {
            numHeads = *static_cast<int64_t const*>(field.data);
        }
    }
    if (numHeads < 1 || numHeads > 1024)
    {
        logError("num_heads must be an integer from 1 to 1024; got " + std::to_string(numHeads));
        return nullptr;
    }
    return new Plugin(static_cast<int32_t>(numHeads));
}

} // namespace hero
