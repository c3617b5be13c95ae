// The only way to the generated FlatBuffers code: its assertions check programming errors of the
// builder and must not end the host's process, so they are compiled out here. What comes from a
// file is checked by the Verifier, never by assertions.
#pragma once

#define FLATBUFFERS_ASSERT(condition) static_cast<void>(0)

#include <flexq_bundle_generated.h>
