// Signs bundles.
#pragma once

#include <string>

#include "base/ed25519.h"
#include "base/thread_pool.h"
#include "bundle/progress.h"

namespace flexq {

// Checks the whole bundle at `path`, then replaces it by a copy with a signature, atomically (see
// AtomicFile) and with the same permissions; a signature that it has is replaced. A symbolic link
// stays one: what it leads to is replaced. Progress counts stored bytes checked, then bytes copied.
// What Bundle::open() and Bundle::verify() refuse is not signed.
Status sign_bundle(const std::string& path, const Ed25519SecretKey& key, ThreadPool& pool,
                   const ProgressSink& progress);

}  // namespace flexq
