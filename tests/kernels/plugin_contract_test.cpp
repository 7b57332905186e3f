// The promises that the plugins make to TensorRT, kept without TensorRT and without a GPU: the test
// takes the builder's part. TensorRT's own registries load the same library in
// test_registration.py.
#include <NvInferRuntime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "tensorrt_stand_in.h"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

namespace {

using namespace nvinfer1;

// A dimension: a constant, or one known at run time only.
class Dimension final : public IDimensionExpr, public apiv::VDimensionExpr {
 public:
  static constexpr int64_t kDynamic = -1;
  explicit Dimension(int64_t value) : value_(value) { IDimensionExpr::mImpl = this; }
  bool isConstant() const override { return value_ != kDynamic; }
  int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

 private:
  int64_t value_;
};

class Builder final : public IExprBuilder, public apiv::VExprBuilder {
 public:
  Builder() { IExprBuilder::mImpl = this; }
  const IDimensionExpr* constant(int64_t value) override {
    return &dimensions_.emplace_back(value);
  }
  const IDimensionExpr* operation(DimensionOperation operation, const IDimensionExpr& first,
                                  const IDimensionExpr& second) override {
    CHECK(operation == DimensionOperation::kCEIL_DIV);
    const int64_t divisor = second.getConstantValue();
    return constant((first.getConstantValue() + divisor - 1) / divisor);
  }
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&,
                                          const IDimensionExpr&) override {
    return nullptr;
  }
  DimsExprs Shape(const std::vector<int64_t>& values) {
    DimsExprs shape = {};
    for (int64_t value : values) shape.d[shape.nbDims++] = constant(value);
    return shape;
  }

 private:
  std::deque<Dimension> dimensions_;
};

TensorRTStandIn& logger = *GetTensorRTStandIn();

IPluginCreatorV3One* FindCreator(const std::string& name) {
  int32_t count = 0;
  IPluginCreatorInterface* const* creators = getCreators(count);
  for (int32_t i = 0; i < count; ++i) {
    auto* creator = static_cast<IPluginCreatorV3One*>(creators[i]);
    if (creator->getPluginName() == name) return creator;
  }
  return nullptr;
}

// A plugin with its three capabilities.
struct Plugin {
  explicit Plugin(IPluginV3* made) : object(made) {
    core =
        static_cast<IPluginV3OneCore*>(made->getCapabilityInterface(PluginCapabilityType::kCORE));
    build =
        static_cast<IPluginV3OneBuild*>(made->getCapabilityInterface(PluginCapabilityType::kBUILD));
    runtime = static_cast<IPluginV3OneRuntime*>(
        made->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  }
  std::unique_ptr<IPluginV3> object;
  IPluginV3OneCore* core;
  IPluginV3OneBuild* build;
  IPluginV3OneRuntime* runtime;
};

IPluginV3* Create(const char* name, const std::vector<PluginField>& fields,
                  TensorRTPhase phase = TensorRTPhase::kBUILD) {
  const PluginFieldCollection collection = {static_cast<int32_t>(fields.size()), fields.data()};
  return FindCreator(name)->createPlugin("layer", &collection, phase);
}

Dims MakeDims(const std::vector<int64_t>& values) {
  Dims dims = {};
  for (int64_t value : values) dims.d[dims.nbDims++] = value;
  return dims;
}

PluginTensorDesc Tensor(const std::vector<int64_t>& dims, DataType type,
                        TensorFormat format = TensorFormat::kLINEAR) {
  return {MakeDims(dims), type, format, 1.0f};
}

DynamicPluginTensorDesc Dynamic(const PluginTensorDesc& desc) {
  return {desc, desc.dims, desc.dims, desc.dims};
}

bool Supports(Plugin& plugin, int32_t position, const std::vector<PluginTensorDesc>& tensors,
              int32_t inputs, int32_t outputs) {
  std::vector<DynamicPluginTensorDesc> dynamic;
  for (const PluginTensorDesc& tensor : tensors) dynamic.push_back(Dynamic(tensor));
  return plugin.build->supportsFormatCombination(position, dynamic.data(), inputs, outputs);
}

void TestIdentity() {
  int32_t count = 0;
  getCreators(count);
  CHECK(count == 4);
  for (const char* name : {"LFQ", "CodebookArgmax", "GroupNorm", "GroupNormSiLU"}) {
    IPluginCreatorV3One* creator = FindCreator(name);
    CHECK(creator != nullptr);
    CHECK(std::strcmp(creator->getPluginNamespace(), "magvit") == 0);
    CHECK(std::strcmp(creator->getPluginVersion(), "1") == 0);
    const Plugin plugin(Create(name, {}));
    CHECK(std::strcmp(plugin.core->getPluginName(), name) == 0);
    CHECK(std::strcmp(plugin.core->getPluginNamespace(), "magvit") == 0);
    CHECK(std::strcmp(plugin.core->getPluginVersion(), "1") == 0);
    const std::unique_ptr<IPluginV3> no_fields(
        creator->createPlugin("layer", nullptr, TensorRTPhase::kBUILD));
    CHECK(no_fields != nullptr);
  }
}

void TestLfqShapes() {
  const int32_t packed_bits = 1;
  Plugin plugin(Create("LFQ", {{"packed_bits", &packed_bits, PluginFieldType::kINT32, 1}}));
  Builder builder;
  CHECK(plugin.build->getNbOutputs() == 2);
  for (const std::vector<int64_t>& tail :
       {std::vector<int64_t>{7}, std::vector<int64_t>{7, 6}, std::vector<int64_t>{7, 6, 5}}) {
    std::vector<int64_t> dims = {Dimension::kDynamic, 18};
    dims.insert(dims.end(), tail.begin(), tail.end());
    const DimsExprs latents = builder.Shape(dims);
    DimsExprs outputs[2] = {};
    CHECK(plugin.build->getOutputShapes(&latents, 1, nullptr, 0, outputs, 2, builder) == 0);
    const DimsExprs& ids = outputs[0];
    CHECK(ids.nbDims == latents.nbDims - 1);
    CHECK(ids.d[0] == latents.d[0]);
    for (size_t i = 0; i < tail.size(); ++i) CHECK(ids.d[i + 1]->getConstantValue() == tail[i]);
    CHECK(outputs[1].nbDims == latents.nbDims);
    CHECK(outputs[1].d[ids.nbDims]->getConstantValue() == 3);
  }

  DimsExprs outputs[2] = {};
  for (const std::vector<int64_t>& bad :
       {std::vector<int64_t>{1, 18}, std::vector<int64_t>{1, 18, 2, 2, 2, 2},
        std::vector<int64_t>{1, 32, 4}}) {
    const DimsExprs latents = builder.Shape(bad);
    logger.last.clear();
    CHECK(plugin.build->getOutputShapes(&latents, 1, nullptr, 0, outputs, 2, builder) != 0);
    CHECK(logger.last.find("LFQ: takes") != std::string::npos);
  }
}

void TestLfqTypesAndFormats() {
  Plugin plugin(Create("LFQ", {}));
  CHECK(plugin.build->getNbOutputs() == 1);
  for (DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    DataType output = DataType::kBOOL;
    CHECK(plugin.build->getOutputDataTypes(&output, 1, &type, 1) == 0);
    CHECK(output == DataType::kINT32);
  }
  const DataType integers = DataType::kINT32;
  DataType output;
  CHECK(plugin.build->getOutputDataTypes(&output, 1, &integers, 1) != 0);

  const std::vector<int64_t> video = {1, 18, 5, 16, 16}, image = {1, 18, 16, 16};
  const PluginTensorDesc ids = Tensor({1, 5, 16, 16}, DataType::kINT32);
  const auto takes = [&](const PluginTensorDesc& latents) {
    return Supports(plugin, 0, {latents, ids}, 1, 1);
  };
  CHECK(takes(Tensor(video, DataType::kFLOAT)));
  CHECK(takes(Tensor(video, DataType::kHALF)));
  CHECK(takes(Tensor(video, DataType::kHALF, TensorFormat::kDHWC8)));
  CHECK(takes(Tensor(image, DataType::kHALF, TensorFormat::kHWC8)));
  CHECK(takes(Tensor(video, DataType::kFLOAT, TensorFormat::kDHWC)));
  CHECK(takes(Tensor(image, DataType::kFLOAT, TensorFormat::kHWC)));
  // Formats whose channels would not be dimension 1, and types that the kernels don't read.
  CHECK(!takes(Tensor(video, DataType::kHALF, TensorFormat::kHWC8)));
  CHECK(!takes(Tensor(image, DataType::kHALF, TensorFormat::kDHWC8)));
  CHECK(!takes(Tensor({1, 18, 16}, DataType::kHALF, TensorFormat::kHWC8)));
  CHECK(!takes(Tensor(video, DataType::kFLOAT, TensorFormat::kDHWC8)));
  CHECK(!takes(Tensor(video, DataType::kHALF, TensorFormat::kCDHW32)));
  CHECK(!takes(Tensor(video, DataType::kBF16)));

  const PluginTensorDesc latents = Tensor(video, DataType::kHALF, TensorFormat::kDHWC8);
  CHECK(Supports(plugin, 1, {latents, ids}, 1, 1));
  CHECK(!Supports(plugin, 1, {latents, Tensor({1, 5, 16, 16}, DataType::kHALF)}, 1, 1));
}

void TestCodebookShapes() {
  Plugin plugin(Create("CodebookArgmax", {}));
  Builder builder;
  CHECK(plugin.build->getNbOutputs() == 2);
  DimsExprs outputs[2] = {};
  const auto shapes = [&](const std::vector<int64_t>& latents,
                          const std::vector<int64_t>& codebook) {
    const DimsExprs inputs[2] = {builder.Shape(latents), builder.Shape(codebook)};
    logger.last.clear();
    return plugin.build->getOutputShapes(inputs, 2, nullptr, 0, outputs, 2, builder);
  };
  CHECK(shapes({Dimension::kDynamic, 256, 16, 12}, {1024, 256}) == 0);
  for (const DimsExprs& output : outputs) {
    CHECK(output.nbDims == 3);
    CHECK(!output.d[0]->isConstant());
    CHECK(output.d[1]->getConstantValue() == 16);
    CHECK(output.d[2]->getConstantValue() == 12);
  }
  CHECK(shapes({1, 256, 16, 12}, {1024, 255}) != 0);
  CHECK(logger.last.find("found 255 and 256") != std::string::npos);
  CHECK(shapes({1, 256}, {1024, 256}) != 0);
  CHECK(logger.last.find("rank 3 to 5, found 2") != std::string::npos);
  CHECK(shapes({1, 256, 4}, {4, 256, 256}) != 0);
  CHECK(logger.last.find("a codebook of rank 2, found 3") != std::string::npos);
  const DimsExprs latents = builder.Shape({1, 256, 4});
  CHECK(plugin.build->getOutputShapes(&latents, 1, nullptr, 0, outputs, 2, builder) != 0);
}

void TestCodebookTypesAndFormats() {
  Plugin plugin(Create("CodebookArgmax", {}));
  DataType outputs[2] = {DataType::kBOOL, DataType::kBOOL};
  const auto types = [&](DataType latents, DataType codebook) {
    const DataType inputs[2] = {latents, codebook};
    return plugin.build->getOutputDataTypes(outputs, 2, inputs, 2);
  };
  for (DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    CHECK(types(type, DataType::kFLOAT) == 0);
    CHECK(outputs[0] == DataType::kINT32);
    CHECK(outputs[1] == DataType::kFLOAT);
  }
  CHECK(types(DataType::kFLOAT, DataType::kHALF) != 0);
  CHECK(types(DataType::kBF16, DataType::kFLOAT) != 0);

  const PluginTensorDesc linear = Tensor({1, 256, 16, 16}, DataType::kHALF);
  const PluginTensorDesc codebook = Tensor({1024, 256}, DataType::kFLOAT);
  const PluginTensorDesc ids = Tensor({1, 16, 16}, DataType::kINT32);
  const PluginTensorDesc margins = Tensor({1, 16, 16}, DataType::kFLOAT);
  for (int32_t position = 0; position < 4; ++position) {
    CHECK(Supports(plugin, position, {linear, codebook, ids, margins}, 2, 2));
  }
  const PluginTensorDesc vectors = Tensor({1, 256, 16, 16}, DataType::kHALF, TensorFormat::kHWC8);
  CHECK(Supports(plugin, 0, {vectors, codebook, ids, margins}, 2, 2));
  CHECK(!Supports(plugin, 1, {linear, Tensor({1024, 256}, DataType::kHALF), ids, margins}, 2, 2));
  CHECK(!Supports(plugin, 2, {linear, codebook, margins, margins}, 2, 2));
  CHECK(!Supports(plugin, 3, {linear, codebook, ids, ids}, 2, 2));

  const PluginTensorDesc inputs[2] = {linear, Tensor({1024, 128}, DataType::kFLOAT)};
  CHECK(plugin.runtime->onShapeChange(inputs, 2, inputs, 2) != 0);

  // A context with a smaller shape runs in the workspace that the largest shape was given.
  size_t before = 0;
  for (int64_t batch = 1; batch < 40; ++batch) {
    const DynamicPluginTensorDesc all[2] = {Dynamic(Tensor({batch, 256, 16, 16}, DataType::kHALF)),
                                            Dynamic(codebook)};
    const size_t bytes = plugin.build->getWorkspaceSize(all, 2, all, 2);
    CHECK(bytes >= before);
    CHECK(bytes > 0);
    CHECK(bytes < (4 << 20));
    before = bytes;
  }
  CHECK(plugin.runtime->getFieldsToSerialize()->nbFields == 0);
}

void TestGroupNormShapes(const char* name) {
  Plugin plugin(Create(name, {}));
  Builder builder;
  DimsExprs output = {};
  const DimsExprs inputs[3] = {builder.Shape({Dimension::kDynamic, 128, 17, 128, 128}),
                               builder.Shape({128}), builder.Shape({128})};
  for (int32_t count : {1, 3}) {
    CHECK(plugin.build->getOutputShapes(inputs, count, nullptr, 0, &output, 1, builder) == 0);
    CHECK(output.nbDims == 5);
    for (int32_t i = 0; i < 5; ++i) CHECK(output.d[i] == inputs[0].d[i]);
  }
  CHECK(plugin.build->getOutputShapes(inputs, 2, nullptr, 0, &output, 1, builder) != 0);
  const DimsExprs odd = builder.Shape({1, 100, 4});
  CHECK(plugin.build->getOutputShapes(&odd, 1, nullptr, 0, &output, 1, builder) != 0);
  CHECK(logger.last.find("100 channels can't be divided into 32 groups") != std::string::npos);

  // At run time: [C], [N, C], and what is neither.
  const auto accepts = [&](const std::vector<int64_t>& weight, const std::vector<int64_t>& bias) {
    const PluginTensorDesc tensors[3] = {Tensor({4, 128, 16, 16}, DataType::kHALF),
                                         Tensor(weight, DataType::kFLOAT),
                                         Tensor(bias, DataType::kFLOAT)};
    return plugin.runtime->onShapeChange(tensors, 3, tensors, 1) == 0;
  };
  CHECK(accepts({128}, {128}));
  CHECK(accepts({4, 128}, {4, 128}));
  CHECK(!accepts({64}, {64}));
  CHECK(!accepts({2, 128}, {2, 128}));
  CHECK(!accepts({128}, {4, 128}));
}

void TestGroupNormTypesAndFormats(const char* name) {
  Plugin plugin(Create(name, {}));
  const DataType half[3] = {DataType::kHALF, DataType::kFLOAT, DataType::kFLOAT};
  const DataType half_affine[3] = {DataType::kHALF, DataType::kHALF, DataType::kHALF};
  DataType output = DataType::kBOOL;
  CHECK(plugin.build->getOutputDataTypes(&output, 1, half, 3) == 0);
  CHECK(output == DataType::kHALF);
  CHECK(plugin.build->getOutputDataTypes(&output, 1, half_affine, 3) != 0);

  const PluginTensorDesc x = Tensor({1, 128, 17, 128, 128}, DataType::kHALF, TensorFormat::kDHWC8);
  const PluginTensorDesc linear = Tensor({1, 128, 17, 128, 128}, DataType::kHALF);
  const PluginTensorDesc affine = Tensor({128}, DataType::kFLOAT);
  CHECK(Supports(plugin, 0, {x, affine, affine, x}, 3, 1));
  CHECK(Supports(plugin, 1, {x, affine, affine, x}, 3, 1));
  CHECK(Supports(plugin, 3, {x, affine, affine, x}, 3, 1));
  CHECK(!Supports(plugin, 3, {x, affine, affine, linear}, 3, 1));
  CHECK(!Supports(plugin, 1, {x, Tensor({128}, DataType::kHALF), affine, x}, 3, 1));
  CHECK(Supports(plugin, 1, {linear, linear}, 1, 1));
}

// A context with a smaller shape runs in the workspace that the largest shape was given.
void TestWorkspaceIsEnoughForSmallerShapes() {
  Plugin plugin(Create("GroupNormSiLU", {}));
  for (TensorFormat format : {TensorFormat::kLINEAR, TensorFormat::kDHWC8}) {
    const auto bytes = [&](int64_t batch, int64_t frames) {
      const DynamicPluginTensorDesc x =
          Dynamic(Tensor({batch, 128, frames, 128, 128}, DataType::kHALF, format));
      return plugin.build->getWorkspaceSize(&x, 1, &x, 1);
    };
    CHECK(bytes(1, 1) > 0);
    CHECK(bytes(1, 17) >= bytes(1, 1));
    for (int64_t batch = 1; batch < 16; ++batch) CHECK(bytes(batch + 1, 17) >= bytes(batch, 17));
    CHECK(bytes(16, 17) < (1 << 20));
  }
}

int32_t Int32Of(const PluginFieldCollection* fields, int32_t index) {
  int32_t value;
  std::memcpy(&value, fields->fields[index].data, sizeof(value));
  return value;
}

float FloatOf(const PluginFieldCollection* fields, int32_t index) {
  float value;
  std::memcpy(&value, fields->fields[index].data, sizeof(value));
  return value;
}

void TestSerializationRoundTrip() {
  const int32_t groups = 8;
  const float epsilon = 1e-5f;
  auto original = std::make_unique<Plugin>(
      Create("GroupNorm", {{"num_groups", &groups, PluginFieldType::kINT32, 1},
                           {"epsilon", &epsilon, PluginFieldType::kFLOAT32, 1}}));
  const PluginFieldCollection* saved = original->runtime->getFieldsToSerialize();
  const std::unique_ptr<IPluginV3> restored(
      FindCreator("GroupNorm")->createPlugin("layer", saved, TensorRTPhase::kRUNTIME));
  CHECK(restored != nullptr);

  // Clones outlive the original, and their fields are their own.
  Plugin cloned(original->object->clone());
  Plugin attached(original->runtime->attachToContext(nullptr));
  original.reset();
  for (Plugin* plugin : {&cloned, &attached}) {
    const PluginFieldCollection* fields = plugin->runtime->getFieldsToSerialize();
    CHECK(fields->nbFields == 2);
    CHECK(std::strcmp(fields->fields[0].name, "num_groups") == 0);
    CHECK(Int32Of(fields, 0) == 8);
    CHECK(std::strcmp(fields->fields[1].name, "epsilon") == 0);
    CHECK(FloatOf(fields, 1) == 1e-5f);
    CHECK(std::strcmp(plugin->core->getPluginName(), "GroupNorm") == 0);
    CHECK(std::strcmp(plugin->build->getTimingCacheID(), "num_groups=8,epsilon=9.99999975e-06") ==
          0);
  }

  Plugin defaults(Create("GroupNormSiLU", {}));
  CHECK(Int32Of(defaults.runtime->getFieldsToSerialize(), 0) == 32);
  CHECK(FloatOf(defaults.runtime->getFieldsToSerialize(), 1) == 1e-6f);
}

void TestBadFieldsAreRefused() {
  const int32_t zero = 0, two = 2;
  const int64_t wide = 32;
  const float negative = -1.0f, not_a_number = NAN;
  const auto refused = [&](const char* name, const PluginField& field, const char* why) {
    logger.last.clear();
    const std::unique_ptr<IPluginV3> plugin(Create(name, {field}));
    return plugin == nullptr && logger.last.find(why) != std::string::npos;
  };
  using Type = PluginFieldType;
  CHECK(refused("GroupNorm", {"num_groups", &zero, Type::kINT32, 1}, "must be positive, found 0"));
  CHECK(refused("GroupNorm", {"num_groups", &wide, Type::kINT64, 1}, "must be one int32"));
  CHECK(refused("GroupNorm", {"num_groups", &two, Type::kINT32, 2}, "length 2"));
  CHECK(refused("GroupNorm", {"num_groups", nullptr, Type::kINT32, 1}, "num_groups must be one"));
  CHECK(refused("GroupNorm", {"num_grups", &two, Type::kINT32, 1}, "num_grups is not known"));
  CHECK(refused("GroupNormSiLU", {"epsilon", &negative, Type::kFLOAT32, 1}, "not negative"));
  CHECK(refused("GroupNormSiLU", {"epsilon", &not_a_number, Type::kFLOAT32, 1}, "finite"));
  CHECK(refused("LFQ", {"packed_bits", &two, Type::kINT32, 1}, "must be 0 or 1, found 2"));
}

}  // namespace

int main() {
  setLoggerFinder(static_cast<ILoggerFinder*>(logger.finder));
  TestIdentity();
  TestLfqShapes();
  TestLfqTypesAndFormats();
  TestCodebookShapes();
  TestCodebookTypesAndFormats();
  for (const char* name : {"GroupNorm", "GroupNormSiLU"}) {
    TestGroupNormShapes(name);
    TestGroupNormTypesAndFormats(name);
  }
  TestWorkspaceIsEnoughForSmallerShapes();
  TestSerializationRoundTrip();
  TestBadFieldsAreRefused();
  return Verdict();
}
