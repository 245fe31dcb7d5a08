// ONNX Runtime's shared library, and the types that tensors may have.

#pragma once

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "interfaces.h"

namespace aurum {

struct Type {
  int triton;
  int onnx;
  size_t bytes;
};
// TRITONSERVER_DataType, ONNXTensorElementDataType; the types that `onnx_session.py` allows
constexpr Type kTypes[] = {{1, 9, 1}, {2, 2, 1},   {6, 3, 1},  {8, 6, 4},
                           {9, 7, 8}, {10, 10, 2}, {11, 1, 4}, {12, 11, 8}};

inline const Type& TypeOf(int code, int Type::* column) {
  for (const Type& type : kTypes) {
    if (type.*column == code) return type;
  }
  throw std::runtime_error("a tensor has a type that this backend does not take");
}

// ONNX Runtime, loaded once for the whole server: the table, its environment, where tensors lie.
class Runtime {
 public:
  explicit Runtime(const std::string& library) {
    void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw std::runtime_error(dlerror());
    auto base = reinterpret_cast<OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
    if (base == nullptr) throw std::runtime_error(library + " is no ONNX Runtime");
    table_ = base()->GetApi(1);
    if (table_ == nullptr) throw std::runtime_error(library + " has another interface");
    Check(At<ort::CreateEnv>(ort::kCreateEnv)(3, "aurum", &env_));  // 3: errors only
    Check(At<ort::CreateCpuMemoryInfo>(ort::kCreateCpuMemoryInfo)(0, 0, &memory_));
  }

  template <typename Function>
  Function At(ort::Place place) const {
    return reinterpret_cast<Function>(table_[place]);
  }

  void Check(OrtStatus* status) const {
    if (status == nullptr) return;
    std::string message = At<ort::GetErrorMessage>(ort::kGetErrorMessage)(status);
    Free(ort::kReleaseStatus, status);
    throw std::runtime_error(message);
  }

  template <typename T>
  void Free(ort::Place place, T* thing) const {
    At<ort::Release<T>>(place)(thing);
  }

  const OrtEnv* env() const { return env_; }
  const OrtMemoryInfo* memory() const { return memory_; }

  static const Runtime& Get(const std::string& library) {
    static std::mutex mutex;
    static std::unique_ptr<Runtime> runtime;  // stays as long as the server
    std::lock_guard<std::mutex> lock(mutex);
    if (!runtime) runtime = std::make_unique<Runtime>(library);
    return *runtime;
  }

 private:
  void* const* table_;
  OrtEnv* env_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
};

}  // namespace aurum
