#include "base/byte_source.h"

#include <cstring>
#include <utility>

#include "base/file.h"

namespace flexq {
namespace {

Status check_range(const ByteSource& source, int64_t offset, size_t bytes) {
  const int64_t size = source.size();
  if (offset >= 0 && offset <= size && bytes <= static_cast<uint64_t>(size - offset)) return {};
  return Status::error(
      StatusCode::kCorrupt, "%s: %zu bytes expected at offset %lld, but the data ends at %lld",
      source.name().c_str(), bytes, static_cast<long long>(offset), static_cast<long long>(size));
}

class FileSource final : public ByteSource {
 public:
  FileSource(File file, int64_t size) : file_(std::move(file)), size_(size) {}
  const std::string& name() const override { return file_.path(); }
  int64_t size() const override { return size_; }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    FLEXQ_RETURN_IF_ERROR(check_range(*this, offset, out.size()));
    return file_.read_at(offset, out);
  }

 private:
  File file_;
  int64_t size_;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    FLEXQ_RETURN_IF_ERROR(check_range(*this, offset, out.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 private:
  std::span<const uint8_t> bytes_;
  std::string name_ = "memory";
};

class SharedSource : public ByteSource {
 public:
  explicit SharedSource(std::shared_ptr<ByteSource> source) : source_(std::move(source)) {}
  const std::string& name() const override { return source_->name(); }
  int64_t size() const override { return source_->size(); }
  Status read_at(int64_t offset, std::span<uint8_t> out) override {
    return source_->read_at(offset, out);
  }

 private:
  std::shared_ptr<ByteSource> source_;
};

}  // namespace

Result<std::unique_ptr<ByteSource>> open_file_source(const std::string& path) {
  FLEXQ_ASSIGN_OR_RETURN(File file, File::open_read(path));
  FLEXQ_ASSIGN_OR_RETURN(const int64_t size, file.size());
  return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(std::move(file), size));
}

std::unique_ptr<ByteSource> make_memory_source(std::span<const uint8_t> bytes) {
  return std::make_unique<MemorySource>(bytes);
}

std::unique_ptr<ByteSource> share_source(std::shared_ptr<ByteSource> source) {
  return std::make_unique<SharedSource>(std::move(source));
}

}  // namespace flexq
