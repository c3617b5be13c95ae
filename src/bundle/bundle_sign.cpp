#include "bundle/bundle_sign.h"

#include <algorithm>
#include <utility>

#include "base/byte_source.h"
#include "base/file.h"
#include "base/memory.h"
#include "bundle/bundle_reader.h"
#include "bundle/bundle_signature.h"

namespace flexq {
namespace {

constexpr int64_t kCopyBytes = int64_t{4} << 20;  // between two progress reports

// Progress of two works, one after the other, as one: done of the first, then of the second.
struct CheckThenCopy {
  const ProgressSink& progress;
  int64_t copy_bytes;
  int64_t checked_bytes = 0;

  static int32_t on_checked(int64_t done, int64_t total, void* user_data) {
    auto& self = *static_cast<CheckThenCopy*>(user_data);
    self.checked_bytes = total;
    return self.progress.callback == nullptr
               ? 0
               : self.progress.callback(done, total + self.copy_bytes, self.progress.user_data);
  }
  Status on_copied(int64_t done) const {
    return progress.report(checked_bytes + done, checked_bytes + copy_bytes);
  }
};

}  // namespace

Status sign_bundle(const std::string& path, const Ed25519SecretKey& key, ThreadPool& pool,
                   const ProgressSink& progress) {
  FLEXQ_ASSIGN_OR_RETURN(const std::string target, resolve_links(path));
  FLEXQ_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> opened, open_file_source(target));
  const std::shared_ptr<ByteSource> source = std::move(opened);
  FLEXQ_ASSIGN_OR_RETURN(const std::unique_ptr<Bundle> bundle,
                         Bundle::open(share_source(source), BundleLimits()));
  CheckThenCopy steps{progress, bundle->file_bytes()};
  FLEXQ_RETURN_IF_ERROR(bundle->verify(pool, {CheckThenCopy::on_checked, &steps}));

  const Ed25519PublicKey key_id = key.public_key();
  const Ed25519Signature signature = key.sign(signed_message(bundle->header().sha256));
  FLEXQ_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(target));
  FLEXQ_RETURN_IF_ERROR(file.keep_permissions());
  FLEXQ_ASSIGN_OR_RETURN(HostBuffer buffer,
                         HostBuffer::allocate(std::min(kCopyBytes, bundle->file_bytes()), "copy"));
  for (int64_t at = 0; at < bundle->file_bytes(); at += buffer.size()) {
    const int64_t n_bytes = std::min(buffer.size(), bundle->file_bytes() - at);
    const auto bytes = buffer.span().first(static_cast<size_t>(n_bytes));
    FLEXQ_RETURN_IF_ERROR(source->read_at(at, bytes));
    if (at == 0) place_signature(bytes, signature, key_id);
    FLEXQ_RETURN_IF_ERROR(file.write_at(at, bytes));
    FLEXQ_RETURN_IF_ERROR(steps.on_copied(at + n_bytes));
  }
  return file.publish();
}

}  // namespace flexq
