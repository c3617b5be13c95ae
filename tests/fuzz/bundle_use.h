// Bundles as the targets build and use them: through flexq.h, like any program.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bundle/bundle_directory.h"
#include "flexq.h"
#include "fuzz/fuzz_target.h"

namespace flexq::test {

// Like accepted(), for calls of flexq.h.
bool accepted(flexq_status status);

// A header in front of `directory` with right sizes and hash.
std::vector<uint8_t> sealed_front(std::span<const uint8_t> directory, int64_t file_bytes);

// Signs the bundle that begins with these bytes, with the key of tests/support/test_keys.h.
void sign_front(std::vector<uint8_t>& front);
// Lets the source give nothing but bundles that are signed with that key.
void require_test_key(flexq_source* source);

// Where the last chunk ends, from segment_base; -1 when no file could hold it.
int64_t segment_bytes(const BundleDirectory& directory);

// Every chunk of the directory, in file order.
std::vector<ChunkEntry*> chunks_of(BundleDirectory& directory);

// Opens the bundle and plans memory for it, however large it is: reads header and directory only.
bool plan_bundle(flexq_source* source);

// Everything that `flexq inspect` shows; reads the tokenizer too.
bool inspect_bundle(flexq_source* source);

// Verifies and loads the bundle, computes a prompt and two tokens, and uses its tokenizer.
bool load_bundle_and_generate(flexq_source* source);

}  // namespace flexq::test
