// Reads plugin fields by name and type.
#include "plugins/fields.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace magvit {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

const PluginField* Find(const PluginFieldCollection& fields, const char* name) {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    if (std::strcmp(fields.fields[i].name, name) == 0) return &fields.fields[i];
  }
  return nullptr;
}

template <typename T>
T ReadScalar(const PluginFieldCollection& fields, const char* name, PluginFieldType type,
             const char* type_name, T absent) {
  const PluginField* field = Find(fields, name);
  if (field == nullptr) return absent;
  if (field->type != type || field->length != 1 || field->data == nullptr) {
    throw std::invalid_argument("field " + std::string(name) + " must be one " + type_name +
                                ", found type " +
                                std::to_string(static_cast<int32_t>(field->type)) + " and length " +
                                std::to_string(field->length));
  }
  T value;
  std::memcpy(&value, field->data, sizeof(value));
  return value;
}

}  // namespace

int32_t ReadInt32(const PluginFieldCollection& fields, const char* name, int32_t absent) {
  return ReadScalar(fields, name, PluginFieldType::kINT32, "int32", absent);
}

float ReadFloat32(const PluginFieldCollection& fields, const char* name, float absent) {
  return ReadScalar(fields, name, PluginFieldType::kFLOAT32, "float32", absent);
}

void CheckNames(const PluginFieldCollection& fields, const PluginFieldCollection& known) {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    if (Find(known, fields.fields[i].name) == nullptr) {
      throw std::invalid_argument("field " + std::string(fields.fields[i].name) + " is not known");
    }
  }
}

}  // namespace magvit
