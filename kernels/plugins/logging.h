// Sends error messages of the plugins to the logger of the TensorRT that loaded them.
#ifndef MAGVIT_PLUGINS_LOGGING_H_
#define MAGVIT_PLUGINS_LOGGING_H_

#include <string>

namespace magvit {

// Writes to the standard error if TensorRT's finder has no logger. This is so for libraries that
// `load_library` loads, with TensorRT 10.16 and 11.1 (dispatch) and TensorRT-RTX 1.7. A logger of
// another major version than the headers that this was compiled with is never called either.
void LogError(const std::string& message) noexcept;

}  // namespace magvit

#endif  // MAGVIT_PLUGINS_LOGGING_H_
