// One file of weights, alone and in a checkpoint. First byte of an input:
//   0  the rest is the file
//   1  the rest is the file's JSON, a zero byte, and its data: the length in front is made right
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/safetensors.h"
#include "fuzz/fuzz_target.h"
#include "fuzz/safetensors_fixture.h"
#include "support/synthetic_checkpoint.h"

namespace flexq::test {
namespace {

// A folder with config.json, and the file of weights that every input replaces.
class CheckpointFolder {
 public:
  CheckpointFolder() {
    path_ = (std::filesystem::temp_directory_path() / "flexq-fuzz-XXXXXX").string();
    FUZZ_REQUIRE(mkdtemp(path_.data()) != nullptr, path_);
    write_files(path_, {{"config.json", fuzz_checkpoint_files().at("config.json")}});
    fd_ = open(weights().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    FUZZ_REQUIRE(fd_ >= 0, weights());
  }
  ~CheckpointFolder() {
    close(fd_);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string weights() const { return path_ + "/model.safetensors"; }
  void set_weights(std::string_view bytes) {
    FUZZ_REQUIRE(ftruncate(fd_, 0) == 0, weights());
    FUZZ_REQUIRE(pwrite(fd_, bytes.data(), bytes.size(), 0) == std::ssize(bytes), weights());
  }

 private:
  std::string path_;
  int fd_ = -1;
};

std::string file_of(FuzzInput input) {
  const bool repair = take_byte(input) % 2 == 1;
  const std::string text(as_text(input));
  if (!repair) return text;
  const size_t end = std::min(text.find('\0'), text.size());
  return safetensors_bytes(text.substr(0, end), end < text.size() ? text.substr(end + 1) : "");
}

bool read_all(const std::string& path) {
  const auto file = SafetensorsFile::open(path);
  if (!accepted(file.status())) return false;
  std::vector<uint8_t> bytes;
  for (const SafetensorsEntry& entry : file->entries()) {
    shape_text(entry.shape);
    bytes.resize(static_cast<size_t>(entry.bytes));
    const Status status = file->read(entry, 0, bytes);
    FUZZ_REQUIRE(status.ok(), status.message());
  }
  return true;
}

}  // namespace

bool fuzz_safetensors(FuzzInput input) {
  static CheckpointFolder folder;
  folder.set_weights(file_of(input));
  if (!read_all(folder.weights())) return false;
  const auto checkpoint = Checkpoint::open(folder.path());
  if (!accepted(checkpoint.status())) return false;
  PieceBuffer buffer;
  bool ok = true;
  for (int64_t tensor = 0; tensor < std::ssize((*checkpoint)->tensors()); ++tensor) {
    for (int64_t piece = 0; piece < (*checkpoint)->n_pieces(tensor); ++piece) {
      WeightPiece out;
      ok = accepted((*checkpoint)->read_piece(tensor, piece, buffer, &out)) && ok;
    }
  }
  return ok;
}

}  // namespace flexq::test
