// The `onnxruntime` backend of the wheel's server, without Python in the way of a request.
//
// It means the same as `model.py` beside it, which serves where no compiler is at hand: what a
// `config.pbtxt` asks for is read, checked and tried by `triton_python_backend.onnx_plan`, once,
// when a version is loaded; this file runs the network. NVIDIA's container has a backend of its own.

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "interfaces.h"

extern char** environ;

namespace {

using Shape = std::vector<int64_t>;

struct Type {
  int triton;
  int onnx;
  size_t bytes;
};
// TRITONSERVER_DataType, ONNXTensorElementDataType; the types that `onnx_session.py` allows
constexpr Type kTypes[] = {{1, 9, 1},  {2, 2, 1},  {6, 3, 1},  {8, 6, 4},
                           {9, 7, 8}, {10, 10, 2}, {11, 1, 4}, {12, 11, 8}};

const Type& TypeOf(int code, int Type::*column) {
  for (const Type& type : kTypes) {
    if (type.*column == code) return type;
  }
  throw std::runtime_error("a tensor has a type that this backend does not take");
}

void Check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw std::runtime_error(message);
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

// What `onnx_plan` made of a config: lines of a word and a value.
struct Plan {
  std::map<std::string, std::string> values;
  std::vector<std::string> inputs;

  explicit Plan(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      size_t space = line.find(' ');
      std::string word = line.substr(0, space);
      std::string value = space == std::string::npos ? "" : line.substr(space + 1);
      if (word == "input") {
        inputs.push_back(value);
      } else {
        values[word] = value;
      }
    }
  }

  int Number(const std::string& word) const { return std::stoi(values.at(word)); }
};

class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_, O_CLOEXEC) != 0) throw std::runtime_error("no pipe can be opened");
  }
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  Pipe(const Pipe&) = delete;
  void CloseRead() { Close(0); }
  void CloseWrite() { Close(1); }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }

 private:
  void Close(int which) {
    if (ends_[which] >= 0) close(ends_[which]);
    ends_[which] = -1;
  }
  int ends_[2];
};

// Run `onnx_plan` on a config and a version's folder; what it prints, or its complaint as an exception.
std::string AskForPlan(const std::string& config, const std::string& folder) {
  Pipe given, printed;
  // told before there is a reader: nothing can break then, but it has to fit
  fcntl(given.write_end(), F_SETPIPE_SZ, 1 << 20);
  if (fcntl(given.write_end(), F_GETPIPE_SZ) < static_cast<int>(config.size()) ||
      write(given.write_end(), config.data(), config.size()) !=
          static_cast<ssize_t>(config.size())) {
    throw std::runtime_error("the config is too long");
  }
  given.CloseWrite();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, given.read_end(), 0);
  posix_spawn_file_actions_adddup2(&actions, printed.write_end(), 1);
  const char* command[] = {"python3", "-m", "triton_python_backend.onnx_plan", folder.c_str(), nullptr};
  pid_t child;
  int failed = posix_spawnp(
      &child, command[0], &actions, nullptr, const_cast<char* const*>(command), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("python3 cannot be started");
  printed.CloseWrite();
  std::string text;
  char buffer[4096];
  while (true) {
    ssize_t count = read(printed.read_end(), buffer, sizeof buffer);
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
    if (count == 0 || (count < 0 && errno != EINTR)) break;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw std::runtime_error(text.empty() ? "the network could not be tried" : text);
  }
  return text;
}

// One input of one request, or of several joined: borrowed memory, or its own.
struct Array {
  int type = 0;  // TRITONSERVER_DataType
  Shape shape;
  const char* data = nullptr;
  size_t bytes = 0;
  std::vector<char> own;
};

struct Result {
  int type = 0;
  Shape shape;  // the first size counts the rows of `data`
  std::vector<char> data;
};

// One request's part in a run.
struct Call {
  TRITONBACKEND_Request* request = nullptr;
  std::vector<Array> inputs;         // in the plan's order
  std::vector<std::string> outputs;  // that are asked for
  std::map<std::string, Result> results;
  std::string error;

  int64_t Rows() const {
    return inputs.empty() || inputs[0].shape.empty() ? 1 : inputs[0].shape[0];
  }
};

Array ReadInput(TRITONBACKEND_Request* request, const std::string& name) {
  TRITONBACKEND_Input* input;
  Check(TRITONBACKEND_RequestInput(request, name.c_str(), &input));
  Array array;
  const int64_t* shape;
  uint32_t dims, buffers;
  uint64_t bytes;
  Check(TRITONBACKEND_InputProperties(
      input, nullptr, &array.type, &shape, &dims, &bytes, &buffers));
  array.shape.assign(shape, shape + dims);
  array.bytes = bytes;
  for (uint32_t index = 0; index < buffers; ++index) {
    const void* part;
    uint64_t size;
    int memory = TRITON_CPU;
    int64_t id = 0;
    Check(TRITONBACKEND_InputBuffer(input, index, &part, &size, &memory, &id));
    if (memory == 2) throw std::runtime_error(name + " lies in the memory of a GPU");
    if (buffers == 1) {
      array.data = static_cast<const char*>(part);
    } else {
      array.own.insert(
          array.own.end(), static_cast<const char*>(part), static_cast<const char*>(part) + size);
    }
  }
  if (buffers != 1) array.data = array.own.data();
  return array;
}

class Model {
 public:
  // config: as JSON; folder: of the version.
  Model(const std::string& config, const std::string& folder)
      : plan_(AskForPlan(config, folder)) {
    runtime_ = &Runtime::Get(plan_.values.at("library"));
    const Runtime& runtime = *runtime_;
    batches_ = plan_.Number("batches") != 0;
    rows_per_run_ = plan_.Number("rows_per_run");
    OrtSessionOptions* options = nullptr;
    runtime.Check(runtime.At<ort::CreateSessionOptions>(ort::kCreateSessionOptions)(&options));
    auto set = [&](ort::Place place, const char* word) {
      runtime.Check(runtime.At<ort::SetOption>(place)(options, plan_.Number(word)));
    };
    auto switch_off = [&](ort::Place place, const char* word) {
      if (plan_.Number(word) == 0) {
        runtime.Check(runtime.At<ort::SwitchOption>(place)(options));
      }
    };
    OrtStatus* status = nullptr;
    try {
      set(ort::kSetSessionGraphOptimizationLevel, "level");
      set(ort::kSetIntraOpNumThreads, "intra");
      set(ort::kSetInterOpNumThreads, "inter");
      set(ort::kSetSessionExecutionMode, "parallel");
      switch_off(ort::kDisableMemPattern, "pattern");
      switch_off(ort::kDisableCpuMemArena, "arena");
      status = runtime.At<ort::CreateSession>(ort::kCreateSession)(
          runtime.env(), plan_.values.at("model").c_str(), options, &session_);
    } catch (...) {
      runtime.Free(ort::kReleaseSessionOptions, options);
      throw;
    }
    runtime.Free(ort::kReleaseSessionOptions, options);
    runtime.Check(status);
  }

  ~Model() { runtime_->Free(ort::kReleaseSession, session_); }
  Model(const Model&) = delete;

  bool batches() const { return batches_; }

  Call Read(TRITONBACKEND_Request* request) const {
    Call call;
    call.request = request;
    try {
      for (const std::string& name : plan_.inputs) call.inputs.push_back(ReadInput(request, name));
      uint32_t count = 0;
      Check(TRITONBACKEND_RequestOutputCount(request, &count));
      for (uint32_t index = 0; index < count; ++index) {
        const char* name;
        Check(TRITONBACKEND_RequestOutputName(request, index, &name));
        call.outputs.emplace_back(name);
      }
    } catch (const std::exception& error) {
      call.error = error.what();
    }
    return call;
  }

  // Answer the calls, joined into runs of at most `rows_per_run` rows. If a joined run fails, each
  // of its calls is tried alone, so that only the bad ones fail.
  void Answer(std::vector<Call>& calls) const {
    std::vector<Call*> group;
    int64_t rows = 0;
    for (Call& call : calls) {
      if (!call.error.empty()) continue;
      bool full = rows_per_run_ > 0 && rows + call.Rows() > rows_per_run_;
      if (!group.empty() && (!batches_ || full)) {
        AnswerGroup(group);
        group.clear();
        rows = 0;
      }
      group.push_back(&call);
      rows += call.Rows();
    }
    if (!group.empty()) AnswerGroup(group);
  }

 private:
  void AnswerGroup(const std::vector<Call*>& group) const {
    if (group.size() > 1) {
      try {
        AnswerJoined(group);
        return;
      } catch (const std::exception&) {
        for (Call* call : group) call->results.clear();  // found again, call by call
      }
    }
    for (Call* call : group) {
      try {
        AnswerAlone(*call);
      } catch (const std::exception& error) {
        call->error = error.what();
      }
    }
  }

  void AnswerAlone(Call& call) const {
    if (!batches_ || rows_per_run_ <= 0 || call.Rows() <= rows_per_run_) {
      call.results = Run(call.inputs, call.outputs);
      return;
    }
    for (int64_t at = 0; at < call.Rows(); at += rows_per_run_) {
      int64_t count = std::min<int64_t>(rows_per_run_, call.Rows() - at);
      std::vector<Array> part;
      for (const Array& input : call.inputs) {
        size_t row = input.bytes / static_cast<size_t>(call.Rows());
        Array rows;
        rows.type = input.type;
        rows.shape = input.shape;
        rows.shape[0] = count;
        rows.data = input.data + row * static_cast<size_t>(at);
        rows.bytes = row * static_cast<size_t>(count);
        part.push_back(std::move(rows));
      }
      for (auto& [name, result] : Run(part, call.outputs)) {
        Result& whole = call.results[name];
        if (at == 0) {
          whole = std::move(result);
        } else {
          whole.shape[0] += result.shape[0];
          whole.data.insert(whole.data.end(), result.data.begin(), result.data.end());
        }
      }
    }
  }

  void AnswerJoined(const std::vector<Call*>& group) const {
    int64_t rows = 0;
    std::vector<std::string> wanted;
    for (const Call* call : group) {
      rows += call->Rows();
      for (const std::string& name : call->outputs) {
        bool known = false;
        for (const std::string& other : wanted) known = known || other == name;
        if (!known) wanted.push_back(name);
      }
    }
    std::vector<Array> joined(plan_.inputs.size());
    for (size_t index = 0; index < joined.size(); ++index) {
      Array& array = joined[index];
      array.type = group[0]->inputs[index].type;
      array.shape = group[0]->inputs[index].shape;
      array.shape[0] = rows;
      for (const Call* call : group) {
        const Array& input = call->inputs[index];
        array.own.insert(array.own.end(), input.data, input.data + input.bytes);
      }
      array.data = array.own.data();
      array.bytes = array.own.size();
    }
    for (auto& [name, result] : Run(joined, wanted)) {
      if (result.shape.empty() || result.shape[0] != rows) {
        throw std::runtime_error("output " + name + " has not one row for each of the batch");
      }
      size_t row = result.data.size() / static_cast<size_t>(rows), at = 0;
      for (Call* call : group) {
        size_t bytes = row * static_cast<size_t>(call->Rows());
        Result part{result.type, result.shape, {}};
        part.shape[0] = call->Rows();
        part.data.assign(result.data.begin() + at, result.data.begin() + at + bytes);
        call->results[name] = std::move(part);
        at += bytes;
      }
    }
  }

  std::map<std::string, Result> Run(
      const std::vector<Array>& inputs, const std::vector<std::string>& wanted) const {
    const Runtime& runtime = *runtime_;
    std::vector<const char*> input_names, output_names;
    for (const std::string& name : plan_.inputs) input_names.push_back(name.c_str());
    for (const std::string& name : wanted) output_names.push_back(name.c_str());
    // freed on every way out
    struct Values {
      const Runtime& runtime;
      std::vector<OrtValue*> all;
      ~Values() {
        for (OrtValue* value : all) {
          if (value != nullptr) runtime.Free(ort::kReleaseValue, value);
        }
      }
    } given{runtime, {}}, answers{runtime, std::vector<OrtValue*>(wanted.size(), nullptr)};
    for (const Array& input : inputs) {
      OrtValue* value = nullptr;
      runtime.Check(runtime.At<ort::CreateTensorWithData>(ort::kCreateTensorWithDataAsOrtValue)(
          runtime.memory(), const_cast<char*>(input.data), input.bytes, input.shape.data(),
          input.shape.size(), TypeOf(input.type, &Type::triton).onnx, &value));
      given.all.push_back(value);
    }
    runtime.Check(runtime.At<ort::Run>(ort::kRun)(
        session_, nullptr, input_names.data(), given.all.data(), given.all.size(),
        output_names.data(), output_names.size(), answers.all.data()));
    std::map<std::string, Result> results;
    for (size_t index = 0; index < wanted.size(); ++index) {
      results[wanted[index]] = Take(answers.all[index]);
    }
    return results;
  }

  Result Take(OrtValue* value) const {
    const Runtime& runtime = *runtime_;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    runtime.Check(
        runtime.At<ort::GetTensorTypeAndShape>(ort::kGetTensorTypeAndShape)(value, &info));
    int type = 0;
    size_t dims = 0;
    runtime.At<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, int*)>(ort::kGetTensorElementType)(
        info, &type);
    runtime.At<ort::GetDimensionsCount>(ort::kGetDimensionsCount)(info, &dims);
    Result result;
    result.shape.resize(dims);
    runtime.At<ort::GetDimensions>(ort::kGetDimensions)(info, result.shape.data(), dims);
    runtime.Free(ort::kReleaseTensorTypeAndShapeInfo, info);
    const Type& known = TypeOf(type, &Type::onnx);
    result.type = known.triton;
    size_t bytes = known.bytes;
    for (int64_t size : result.shape) bytes *= static_cast<size_t>(size);
    void* data = nullptr;
    runtime.Check(
        runtime.At<ort::GetTensorMutableData>(ort::kGetTensorMutableData)(value, &data));
    result.data.assign(static_cast<char*>(data), static_cast<char*>(data) + bytes);
    return result;
  }

  Plan plan_;
  const Runtime* runtime_ = nullptr;
  OrtSession* session_ = nullptr;
  bool batches_ = false;
  int64_t rows_per_run_ = 0;
};

void FillResponse(TRITONBACKEND_Response* response, const Call& call) {
  for (const std::string& name : call.outputs) {
    const Result& result = call.results.at(name);
    TRITONBACKEND_Output* output;
    Check(TRITONBACKEND_ResponseOutput(
        response, &output, name.c_str(), result.type, result.shape.data(),
        static_cast<uint32_t>(result.shape.size())));
    void* buffer = nullptr;
    int memory = TRITON_CPU;
    int64_t id = 0;
    Check(TRITONBACKEND_OutputBuffer(output, &buffer, result.data.size(), &memory, &id));
    if (memory == 2) throw std::runtime_error(name + " is wanted in the memory of a GPU");
    std::memcpy(buffer, result.data.data(), result.data.size());
  }
}

void Respond(const Call& call) {
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, call.request);
  if (error != nullptr) {  // nobody waits for it any more
    TRITONSERVER_ErrorDelete(error);
    return;
  }
  std::string complaint = call.error;
  if (complaint.empty()) {
    try {
      FillResponse(response, call);
    } catch (const std::exception& failed) {
      complaint = failed.what();
    }
  }
  if (!complaint.empty()) error = TRITONSERVER_ErrorNew(TRITON_INTERNAL, complaint.c_str());
  TRITONSERVER_Error* unsent = TRITONBACKEND_ResponseSend(response, TRITON_COMPLETE_FINAL, error);
  if (unsent != nullptr) TRITONSERVER_ErrorDelete(unsent);
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

uint64_t Now() {
  auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

std::string ReadConfig(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message;
  Check(TRITONBACKEND_ModelConfig(model, 1, &message));
  const char* text;
  size_t bytes;
  TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &text, &bytes);
  std::string config = error == nullptr ? std::string(text, bytes) : "";
  TRITONSERVER_MessageDelete(message);
  Check(error);
  return config;
}

TRITONSERVER_Error* Refuse(const std::exception& error) {
  return TRITONSERVER_ErrorNew(TRITON_INVALID_ARG, error.what());
}

}  // namespace

extern "C" {

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  try {
    int kind;
    const char* folder;
    uint64_t version;
    Check(TRITONBACKEND_ModelRepository(model, &kind, &folder));
    Check(TRITONBACKEND_ModelVersion(model, &version));
    std::string of_version = std::string(folder) + "/" + std::to_string(version);
    auto state = std::make_unique<Model>(ReadConfig(model), of_version);
    Check(TRITONBACKEND_ModelSetState(model, state.get()));
    state.release();
  } catch (const std::exception& error) {
    return Refuse(error);
  }
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  void* state = nullptr;
  TRITONSERVER_Error* error = TRITONBACKEND_ModelState(model, &state);
  delete static_cast<Model*>(state);
  return error;
}

// Takes over the requests: each is answered and released here, whatever happens.
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count) {
  uint64_t started = Now();
  TRITONBACKEND_Model* owner;
  void* state;
  try {
    Check(TRITONBACKEND_ModelInstanceModel(instance, &owner));
    Check(TRITONBACKEND_ModelState(owner, &state));
  } catch (const std::exception& error) {
    return Refuse(error);
  }
  const Model& model = *static_cast<Model*>(state);
  std::vector<Call> calls;
  for (uint32_t index = 0; index < count; ++index) calls.push_back(model.Read(requests[index]));
  uint64_t computing = Now();
  model.Answer(calls);
  uint64_t computed = Now();
  for (const Call& call : calls) Respond(call);
  uint64_t ended = Now();
  uint64_t rows = 0;
  auto drop = [](TRITONSERVER_Error* error) {
    if (error != nullptr) TRITONSERVER_ErrorDelete(error);
  };
  for (const Call& call : calls) {
    rows += model.batches() ? static_cast<uint64_t>(call.Rows()) : 1;
    drop(TRITONBACKEND_ModelInstanceReportStatistics(
        instance, call.request, call.error.empty(), started, computing, computed, ended));
    drop(TRITONBACKEND_RequestRelease(call.request, TRITON_RELEASE_ALL));
  }
  drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(
      instance, rows, started, computing, computed, ended));
  return nullptr;
}

}  // extern "C"
