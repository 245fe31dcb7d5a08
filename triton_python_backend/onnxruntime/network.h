// A loaded network, and the calls that it answers: joined, bounded, or one by one.

#pragma once

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plan.h"
#include "runtime.h"

namespace aurum {

using Shape = std::vector<int64_t>;

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
  std::vector<Array> inputs;         // in the plan's order
  std::vector<std::string> outputs;  // that are asked for
  std::map<std::string, Result> results;
  std::string error;

  int64_t Rows() const {
    return inputs.empty() || inputs[0].shape.empty() ? 1 : inputs[0].shape[0];
  }
};

class Network {
 public:
  // config: as JSON; folder: of the version.
  Network(const std::string& config, const std::string& folder)
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
    GiveBack();
    runtime.Check(status);
  }

  ~Network() {
    runtime_->Free(ort::kReleaseSession, session_);
    GiveBack();
  }
  Network(const Network&) = delete;

  bool batches() const { return batches_; }

  const std::vector<std::string>& inputs() const { return plan_.inputs; }

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
  // What loading a network took, and what an unloaded one leaves, stays with the server otherwise:
  // it keeps freed memory, as its requests need it again.
  static void GiveBack() { malloc_trim(0); }

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
    runtime.Check(runtime.At<ort::GetTensorMutableData>(ort::kGetTensorMutableData)(value, &data));
    result.data.assign(static_cast<char*>(data), static_cast<char*>(data) + bytes);
    return result;
  }

  Plan plan_;
  const Runtime* runtime_ = nullptr;
  OrtSession* session_ = nullptr;
  bool batches_ = false;
  int64_t rows_per_run_ = 0;
};

}  // namespace aurum
