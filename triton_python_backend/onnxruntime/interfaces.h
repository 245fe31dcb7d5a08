// What this backend uses of two C interfaces whose headers the wheels do not bring.
//
// Both keep their binary form: Triton's backend API 1 adds functions only, and ONNX Runtime's table
// of functions is only ever appended to, so that what is at a place stays there.

#pragma once

#include <cstddef>
#include <cstdint>

// Triton: https://github.com/triton-inference-server/core, include/triton/core/tritonbackend.h
extern "C" {

struct TRITONSERVER_Error;
struct TRITONSERVER_Message;
struct TRITONBACKEND_Model;
struct TRITONBACKEND_ModelInstance;
struct TRITONBACKEND_Request;
struct TRITONBACKEND_Response;
struct TRITONBACKEND_Input;
struct TRITONBACKEND_Output;

enum { TRITON_INTERNAL = 1 };                                // TRITONSERVER_Error_Code
enum { TRITON_CPU = 0, TRITON_GPU = 2 };                     // TRITONSERVER_MemoryType
enum { TRITON_RELEASE_ALL = 1, TRITON_COMPLETE_FINAL = 1 };  // flags

TRITONSERVER_Error* TRITONSERVER_ErrorNew(int code, const char* message);
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error);
const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error);
TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(
    TRITONSERVER_Message* message, const char** base, size_t* bytes);
TRITONSERVER_Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message);

TRITONSERVER_Error* TRITONBACKEND_ModelConfig(
    TRITONBACKEND_Model* model, uint32_t version, TRITONSERVER_Message** config);
TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model, uint64_t* version);
TRITONSERVER_Error* TRITONBACKEND_ModelRepository(
    TRITONBACKEND_Model* model, int* kind, const char** location);
TRITONSERVER_Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model, void** state);
TRITONSERVER_Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Model** model);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(
    TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request, bool success,
    uint64_t exec_start, uint64_t compute_start, uint64_t compute_end, uint64_t exec_end);
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(
    TRITONBACKEND_ModelInstance* instance, uint64_t rows, uint64_t exec_start,
    uint64_t compute_start, uint64_t compute_end, uint64_t exec_end);
TRITONSERVER_Error* TRITONBACKEND_RequestInput(
    TRITONBACKEND_Request* request, const char* name, TRITONBACKEND_Input** input);
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(
    TRITONBACKEND_Request* request, uint32_t* count);
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(
    TRITONBACKEND_Request* request, uint32_t index, const char** name);
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t flags);
TRITONSERVER_Error* TRITONBACKEND_InputProperties(
    TRITONBACKEND_Input* input, const char** name, int* datatype, const int64_t** shape,
    uint32_t* dims, uint64_t* bytes, uint32_t* buffers);
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(
    TRITONBACKEND_Input* input, uint32_t index, const void** buffer, uint64_t* bytes,
    int* memory_type, int64_t* memory_id);
TRITONSERVER_Error* TRITONBACKEND_ResponseNew(
    TRITONBACKEND_Response** response, TRITONBACKEND_Request* request);
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(
    TRITONBACKEND_Response* response, TRITONBACKEND_Output** output, const char* name, int datatype,
    const int64_t* shape, uint32_t dims);
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(
    TRITONBACKEND_Output* output, void** buffer, uint64_t bytes, int* memory_type,
    int64_t* memory_id);
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(
    TRITONBACKEND_Response* response, uint32_t flags, TRITONSERVER_Error* error);

// ONNX Runtime: https://github.com/microsoft/onnxruntime,
// include/onnxruntime/core/session/onnxruntime_c_api.h
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtMemoryInfo;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtRunOptions;

struct OrtApiBase {
  void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

}  // extern "C"

// Places in ONNX Runtime's table, and the functions that are there.
namespace ort {

enum Place {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetSessionExecutionMode = 13,
  kDisableMemPattern = 17,
  kDisableCpuMemArena = 19,
  kSetSessionGraphOptimizationLevel = 23,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithDataAsOrtValue = 49,
  kGetTensorMutableData = 51,
  kGetTensorElementType = 60,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorTypeAndShape = 65,
  kCreateCpuMemoryInfo = 69,
  kReleaseStatus = 93,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseTensorTypeAndShapeInfo = 99,
  kReleaseSessionOptions = 100,
};

using GetErrorMessage = const char* (*)(const OrtStatus*);
using CreateEnv = OrtStatus* (*)(int severity, const char* id, OrtEnv**);
using CreateSession = OrtStatus* (*)(const OrtEnv*, const char* path, const OrtSessionOptions*,
                                     OrtSession**);
using Run = OrtStatus* (*)(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                           const OrtValue* const* inputs, size_t input_count,
                           const char* const* output_names, size_t output_count,
                           OrtValue** outputs);
using CreateSessionOptions = OrtStatus* (*)(OrtSessionOptions**);
using SetOption = OrtStatus* (*)(OrtSessionOptions*, int);
using SwitchOption = OrtStatus* (*)(OrtSessionOptions*);
using CreateTensorWithData = OrtStatus* (*)(const OrtMemoryInfo*, void* data, size_t bytes,
                                            const int64_t* shape, size_t dims, int type,
                                            OrtValue**);
using GetTensorMutableData = OrtStatus* (*)(OrtValue*, void**);
using GetTensorTypeAndShape = OrtStatus* (*)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
using GetDimensionsCount = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, size_t*);
using GetDimensions = OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t);
using CreateCpuMemoryInfo = OrtStatus* (*)(int allocator, int kind, OrtMemoryInfo**);
template <typename T>
using Release = void (*)(T*);

}  // namespace ort
