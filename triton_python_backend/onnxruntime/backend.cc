// The `onnxruntime` backend of the wheel's server, without Python in the way of a request.
//
// It means the same as `model.py` beside it, which serves where no compiler is at hand: what a
// `config.pbtxt` asks for is read, checked and tried by `triton_python_backend.onnx_plan`, once,
// when a version is loaded; this file runs the network. NVIDIA's container has a backend of its
// own.

#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "interfaces.h"
#include "network.h"

namespace aurum {
namespace {

void Check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw std::runtime_error(message);
}

Array ReadInput(TRITONBACKEND_Request* request, const std::string& name) {
  TRITONBACKEND_Input* input;
  Check(TRITONBACKEND_RequestInput(request, name.c_str(), &input));
  Array array;
  const int64_t* shape;
  uint32_t dims, buffers;
  uint64_t bytes;
  Check(
      TRITONBACKEND_InputProperties(input, nullptr, &array.type, &shape, &dims, &bytes, &buffers));
  array.shape.assign(shape, shape + dims);
  array.bytes = bytes;
  for (uint32_t index = 0; index < buffers; ++index) {
    const void* part;
    uint64_t size;
    int memory = TRITON_CPU;
    int64_t id = 0;
    Check(TRITONBACKEND_InputBuffer(input, index, &part, &size, &memory, &id));
    if (memory == TRITON_GPU) throw std::runtime_error(name + " lies in the memory of a GPU");
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

Call ReadCall(const Network& network, TRITONBACKEND_Request* request) {
  Call call;
  try {
    for (const std::string& name : network.inputs()) {
      call.inputs.push_back(ReadInput(request, name));
    }
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
    if (memory == TRITON_GPU) throw std::runtime_error(name + " is wanted in the memory of a GPU");
    std::memcpy(buffer, result.data.data(), result.data.size());
  }
}

void Respond(TRITONBACKEND_Request* request, const Call& call) {
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = TRITONBACKEND_ResponseNew(&response, request);
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
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
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
  return TRITONSERVER_ErrorNew(TRITON_INTERNAL, error.what());
}

}  // namespace
}  // namespace aurum

using namespace aurum;

extern "C" {

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  try {
    int kind;
    const char* folder;
    uint64_t version;
    Check(TRITONBACKEND_ModelRepository(model, &kind, &folder));
    Check(TRITONBACKEND_ModelVersion(model, &version));
    std::string of_version = std::string(folder) + "/" + std::to_string(version);
    auto state = std::make_unique<Network>(ReadConfig(model), of_version);
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
  delete static_cast<Network*>(state);
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
  const Network& network = *static_cast<Network*>(state);
  std::vector<Call> calls;
  for (uint32_t index = 0; index < count; ++index) {
    calls.push_back(ReadCall(network, requests[index]));
  }
  uint64_t computing = Now();
  network.Answer(calls);
  uint64_t computed = Now();
  for (uint32_t index = 0; index < count; ++index) Respond(requests[index], calls[index]);
  uint64_t ended = Now();
  uint64_t rows = 0;
  auto drop = [](TRITONSERVER_Error* error) {
    if (error != nullptr) TRITONSERVER_ErrorDelete(error);
  };
  for (uint32_t index = 0; index < count; ++index) {
    const Call& call = calls[index];
    rows += network.batches() ? static_cast<uint64_t>(call.Rows()) : 1;
    drop(TRITONBACKEND_ModelInstanceReportStatistics(
        instance, requests[index], call.error.empty(), started, computing, computed, ended));
    drop(TRITONBACKEND_RequestRelease(requests[index], TRITON_RELEASE_ALL));
  }
  drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(
      instance, rows, started, computing, computed, ended));
  return nullptr;
}

}  // extern "C"
