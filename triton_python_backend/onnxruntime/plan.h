// What `triton_python_backend.onnx_plan` says of a version, before it is loaded.

#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

extern char** environ;

namespace aurum {

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

// Run `onnx_plan` on a config and a version's folder; what it prints, or its complaint as an
// exception.
inline std::string AskForPlan(const std::string& config, const std::string& folder) {
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
  const char* command[] = {
      "python3", "-m", "triton_python_backend.onnx_plan", folder.c_str(), nullptr};
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

}  // namespace aurum
