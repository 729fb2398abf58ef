// The plugin without TensorRT's library or a GPU: fields, clones, shapes, types, formats, and what would be launched.
#include "check.h"
#include "plugin.h"

#include <cstring>
#include <memory>
#include <set>
#include <vector>

using namespace nvinfer1;

extern "C" IPluginCreatorInterface* const* getCreators(int32_t& count);

namespace
{

std::unique_ptr<IPluginV3> create(PluginField const& field)
{
    hero::Creator creator;
    PluginFieldCollection const fields{1, &field};
    return std::unique_ptr<IPluginV3>(creator.createPlugin("attention", &fields, TensorRTPhase::kBUILD));
}

std::unique_ptr<IPluginV3> withHeads(int32_t heads)
{
    return create(PluginField("num_heads", &heads, PluginFieldType::kINT32, 1));
}

template <typename Capability>
Capability& capability(IPluginV3& plugin, PluginCapabilityType type)
{
    IPluginCapability* found = plugin.getCapabilityInterface(type);
    CHECK(found != nullptr);
    return *static_cast<Capability*>(found);
}

int32_t serialisedHeads(IPluginV3& plugin)
{
    auto& runtime = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
    PluginFieldCollection const* fields = runtime.getFieldsToSerialize();
    CHECK(fields->nbFields == 1);
    CHECK(std::strcmp(fields->fields[0].name, "num_heads") == 0);
    CHECK(fields->fields[0].type == PluginFieldType::kINT32 && fields->fields[0].length == 1);
    return *static_cast<int32_t const*>(fields->fields[0].data);
}

std::vector<DynamicPluginTensorDesc> tensors(
    DataType type, int64_t frames = 16, int64_t channels = 320, TensorFormat format = TensorFormat::kLINEAR)
{
    DynamicPluginTensorDesc wide{};
    wide.desc.type = type;
    wide.desc.format = format;
    wide.desc.dims = {4, {-1, frames, -1, channels}};
    wide.min = {4, {1, frames, 16, channels}};
    wide.max = {4, {2, frames, 4096, channels}};
    DynamicPluginTensorDesc alpha{};
    alpha.desc.type = DataType::kFLOAT;
    alpha.desc.format = TensorFormat::kLINEAR;
    alpha.desc.dims = alpha.min = alpha.max = {1, {1}};
    return {wide, wide, wide, alpha, wide};
}

void theLibraryExportsOneCreator()
{
    int32_t count = 0;
    IPluginCreatorInterface* const* creators = getCreators(count);
    CHECK(count == 1);
    auto* creator = static_cast<IPluginCreatorV3One*>(creators[0]);
    CHECK(std::strcmp(creator->getPluginName(), "TemporalAttentionIM3") == 0);
    CHECK(std::strcmp(creator->getPluginVersion(), "1") == 0);
    CHECK(std::strcmp(creator->getPluginNamespace(), "hero") == 0);
    CHECK(creator->getFieldNames()->nbFields == 3);
    CHECK(std::strcmp(creator->getFieldNames()->fields[0].name, "num_heads") == 0);
}

void fieldsMakeAPluginAndBadFieldsDoNot()
{
    int64_t const wide = 8;
    float const real = 8.0F;
    CHECK(serialisedHeads(*withHeads(8)) == 8);
    CHECK(serialisedHeads(*create(PluginField("num_heads", &wide, PluginFieldType::kINT64, 1))) == 8);
    CHECK(withHeads(0) == nullptr);
    CHECK(withHeads(-8) == nullptr);
    CHECK(create(PluginField("num_heads", &real, PluginFieldType::kFLOAT32, 1)) == nullptr);
    CHECK(create(PluginField("heads", &wide, PluginFieldType::kINT64, 1)) == nullptr);
}

void aCloneOutlivesItsOriginal()
{
    std::unique_ptr<IPluginV3> original = withHeads(8);
    std::unique_ptr<IPluginV3> clone(original->clone());
    auto& runtime = capability<IPluginV3OneRuntime>(*clone, PluginCapabilityType::kRUNTIME);
    std::unique_ptr<IPluginV3> attached(runtime.attachToContext(nullptr));
    original.reset();
    CHECK(serialisedHeads(*clone) == 8);
    CHECK(attached.get() != clone.get());
    CHECK(serialisedHeads(*attached) == 8);
    auto& core = capability<IPluginV3OneCore>(*clone, PluginCapabilityType::kCORE);
    CHECK(std::strcmp(core.getPluginName(), "TemporalAttentionIM3") == 0);
    CHECK(std::strcmp(core.getPluginNamespace(), "hero") == 0);
}

void serialisedFieldsMakeAnEqualPlugin()
{
    std::unique_ptr<IPluginV3> original = withHeads(8);
    auto& runtime = capability<IPluginV3OneRuntime>(*original, PluginCapabilityType::kRUNTIME);
    hero::Creator creator;
    std::unique_ptr<IPluginV3> again(
        creator.createPlugin("attention", runtime.getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
    CHECK(again != nullptr && serialisedHeads(*again) == 8);
}

void theOutputIsAsQ()
{
    std::unique_ptr<IPluginV3> plugin = withHeads(8);
    auto& build = capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
    CHECK(build.getNbOutputs() == 1);
    for (DataType type : {DataType::kHALF, DataType::kFLOAT})
    {
        DataType const inputs[] = {type, type, type, DataType::kFLOAT};
        DataType output{};
        CHECK(build.getOutputDataTypes(&output, 1, inputs, 4) == 0);
        CHECK(output == type);
    }
    DimsExprs inputs[4]{};
    for (int32_t i = 0; i < 3; ++i)
    {
        inputs[i].nbDims = 4;
        for (int32_t j = 0; j < 4; ++j)
        {
            inputs[i].d[j] = reinterpret_cast<IDimensionExpr const*>(static_cast<uintptr_t>(16 * (4 * i + j + 1)));
        }
    }
    DimsExprs output{};
    alignas(8) unsigned char builder[64]{}; // never called: the output's expressions are the input's own
    CHECK(build.getOutputShapes(inputs, 4, nullptr, 0, &output, 1, *reinterpret_cast<IExprBuilder*>(builder)) == 0);
    CHECK(output.nbDims == 4);
    for (int32_t j = 0; j < 4; ++j)
    {
        CHECK(output.d[j] == inputs[0].d[j]);
    }
}

bool supported(std::vector<DynamicPluginTensorDesc> const& descs)
{
    std::unique_ptr<IPluginV3> plugin = withHeads(8);
    auto& build = capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
    for (int32_t i = 0; i < 5; ++i)
    {
        if (!build.supportsFormatCombination(i, descs.data(), 4, 1))
        {
            return false;
        }
    }
    return true;
}

void formatsAreLinearHalfOrFloatAndAlphaFloat()
{
    CHECK(supported(tensors(DataType::kHALF)));
    CHECK(supported(tensors(DataType::kFLOAT)));
    CHECK(!supported(tensors(DataType::kBF16)));
    CHECK(!supported(tensors(DataType::kHALF, 16, 320, TensorFormat::kCHW2)));
    std::vector<DynamicPluginTensorDesc> mixed = tensors(DataType::kHALF);
    mixed[1].desc.type = DataType::kFLOAT;
    CHECK(!supported(mixed));
    std::vector<DynamicPluginTensorDesc> halfAlpha = tensors(DataType::kHALF);
    halfAlpha[3].desc.type = DataType::kHALF;
    CHECK(!supported(halfAlpha));
}

void shapesWithNoKernelAreRefusedWhenBuilding()
{
    std::unique_ptr<IPluginV3> plugin = withHeads(8);
    auto& build = capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
    auto configure = [&](std::vector<DynamicPluginTensorDesc> const& descs) {
        return build.configurePlugin(descs.data(), 4, descs.data() + 4, 1);
    };
    for (int64_t channels : {320, 640, 1280})
    {
        CHECK(configure(tensors(DataType::kHALF, 16, channels)) == 0);
        CHECK(configure(tensors(DataType::kFLOAT, 16, channels)) == 0);
    }
    CHECK(configure(tensors(DataType::kHALF, 15)) != 0);
    CHECK(configure(tensors(DataType::kHALF, 16, 328)) != 0);
}

void everyArchitectureHasEveryKernel()
{
    std::set<int32_t> architectures;
    std::set<std::string> symbols;
    for (int32_t i = 0; i < hero::kKernelCount; ++i)
    {
        hero::Kernel const& kernel = hero::kKernels[i];
        architectures.insert(kernel.sm);
        symbols.insert(kernel.symbol);
        CHECK(std::memcmp(kernel.cubin, "\x7f" "ELF", 4) == 0);
        CHECK(kernel.sharedBytes <= 48 * 1024); // more needs an opt-in that the launcher does not make
        CHECK(kernel.threads % 32 == 0 && kernel.threads <= 1024);
    }
    CHECK(hero::kKernelCount == static_cast<int32_t>(architectures.size() * symbols.size()));
}

void aKernelRunsOnItsArchitectureAndLaterMinors()
{
    hero::Shape const shape{hero::Type::kFP16, 1, 16, 1024, 320, 8};
    auto smOf = [&](int32_t sm) {
        hero::Kernel const* kernel = hero::findKernel(shape, sm);
        return kernel == nullptr ? 0 : kernel->sm;
    };
    CHECK(smOf(80) == 80);
    CHECK(smOf(86) == 86);
    CHECK(smOf(87) == 86);
    CHECK(smOf(89) == 89);
    CHECK(smOf(90) == 90);
    CHECK(smOf(75) == 0);
    CHECK(smOf(101) == 0); // sm_100a is for SM 10.0 alone
    CHECK(hero::findKernel({hero::Type::kFP16, 1, 16, 1024, 320, 4}, 90) == nullptr);
}

void launchesCoverEveryPair()
{
    struct Case
    {
        hero::Shape shape;
        uint32_t programs; // counted by hand: batch · ceil(tokens · heads / pairs), 8 pairs in FP16 and 4 in FP32
    };
    Case const cases[] = {
        {{hero::Type::kFP16, 1, 16, 1024, 320, 8}, 1024},
        {{hero::Type::kFP16, 2, 16, 4096, 320, 8}, 8192},
        {{hero::Type::kFP32, 1, 16, 1024, 320, 8}, 2048},
        {{hero::Type::kFP16, 3, 16, 7, 48, 2}, 6},
        {{hero::Type::kFP16, 70000, 16, 64, 320, 8}, 4480000},
    };
    for (Case const& c : cases)
    {
        hero::Kernel const* kernel = hero::findKernel(c.shape, 90);
        CHECK(kernel != nullptr);
        auto const launch = hero::launchOf(*kernel, c.shape);
        CHECK(launch && launch->gridX == c.programs);
        CHECK(launch->threads == 128);
        CHECK(launch->tokens == c.shape.tokens);
        CHECK(launch->tokenStride == c.shape.channels);
        CHECK(launch->frameStride == c.shape.channels * c.shape.tokens);
        CHECK(launch->batchStride == c.shape.channels * c.shape.tokens * 16);
    }
    hero::Shape const tooLong{hero::Type::kFP16, 1, 16, int64_t{1} << 20, 320, 8};
    CHECK(!hero::launchOf(*hero::findKernel(tooLong, 90), tooLong));
}

void runningWithoutADriverIsAnErrorAndNotACrash()
{
    std::string error;
    if (hero::currentSm(error) != 0)
    {
        return; // there is one
    }
    CHECK(!error.empty());
    std::unique_ptr<IPluginV3> plugin = withHeads(8);
    auto& runtime = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
    std::vector<PluginTensorDesc> descs;
    for (DynamicPluginTensorDesc tensor : tensors(DataType::kHALF))
    {
        tensor.desc.dims = tensor.max;
        descs.push_back(tensor.desc);
    }
    CHECK(runtime.onShapeChange(descs.data(), 4, descs.data() + 4, 1) != 0);
    void const* inputs[4]{};
    void* outputs[1]{};
    CHECK(runtime.enqueue(descs.data(), descs.data() + 4, inputs, outputs, nullptr, nullptr) != 0);
}

} // namespace

int main()
{
    theLibraryExportsOneCreator();
    fieldsMakeAPluginAndBadFieldsDoNot();
    aCloneOutlivesItsOriginal();
    serialisedFieldsMakeAnEqualPlugin();
    theOutputIsAsQ();
    formatsAreLinearHalfOrFloatAndAlphaFloat();
    shapesWithNoKernelAreRefusedWhenBuilding();
    everyArchitectureHasEveryKernel();
    aKernelRunsOnItsArchitectureAndLaterMinors();
    launchesCoverEveryPair();
    runningWithoutADriverIsAnErrorAndNotACrash();
    std::cout << "11 checks of the plugin hold\n";
    return 0;
}
