// Saving and restoring sequences.
#include <cstring>

#include "api/handles.h"
#include "base/file.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::EnteredContext;
using flexq::api::guarded;

namespace {

constexpr mode_t kOwnerOnly = 0600;  // a session has the conversation in it

Status save_to_file(flexq::Context& context, int32_t sequence, const char* path) {
  FLEXQ_RETURN_IF_ERROR(context.saved_bytes(sequence).status());
  FLEXQ_ASSIGN_OR_RETURN(flexq::AtomicFile file, flexq::AtomicFile::create(path, kOwnerOnly));
  FLEXQ_RETURN_IF_ERROR(context.save_sequence(
      sequence, [&](int64_t offset, std::span<const uint8_t> bytes) -> Status {
        return file.write_at(offset, bytes);
      }));
  return file.publish();
}

Status save_to_memory(flexq::Context& context, int32_t sequence, void* session, int64_t capacity,
                      int64_t* session_bytes) {
  FLEXQ_ASSIGN_OR_RETURN(*session_bytes, context.saved_bytes(sequence));
  if (*session_bytes > capacity) {
    return Status::error(StatusCode::kBufferTooSmall, "session: expected room for %lld, found %lld",
                         static_cast<long long>(*session_bytes), static_cast<long long>(capacity));
  }
  FLEXQ_REQUIRE(session);
  return context.save_sequence(
      sequence, [&](int64_t offset, std::span<const uint8_t> part) -> Status {
        memcpy(static_cast<uint8_t*>(session) + offset, part.data(), part.size());
        return Status();
      });
}

}  // namespace

extern "C" {

flexq_status flexq_context_save_sequence(flexq_context* context, int32_t sequence,
                                         const char* path) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(path);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return save_to_file(*entered, sequence, path);
  });
}

flexq_status flexq_context_save_sequence_to_memory(flexq_context* context, int32_t sequence,
                                                   void* session, int64_t capacity,
                                                   int64_t* session_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(session_bytes);
    *session_bytes = 0;
    if (capacity < 0) return flexq::api::negative_length("capacity", capacity);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return save_to_memory(*entered, sequence, session, capacity, session_bytes);
  });
}

flexq_status flexq_context_restore_sequence(flexq_context* context, int32_t sequence,
                                            const char* path) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(path);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    FLEXQ_ASSIGN_OR_RETURN(const auto source, flexq::open_file_source(path));
    return entered->restore_sequence(sequence, *source);
  });
}

flexq_status flexq_context_restore_sequence_from_memory(flexq_context* context, int32_t sequence,
                                                        const void* session,
                                                        int64_t session_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    FLEXQ_REQUIRE(session);
    if (session_bytes < 0) return flexq::api::negative_length("session_bytes", session_bytes);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    const auto source = flexq::make_memory_source(
        {static_cast<const uint8_t*>(session), static_cast<size_t>(session_bytes)});
    return entered->restore_sequence(sequence, *source);
  });
}

flexq_status flexq_context_sequence_tokens(const flexq_context* context, int32_t sequence,
                                           int32_t* tokens, int32_t capacity, int32_t* n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    FLEXQ_RETURN_IF_ERROR(entered->check_sequence(sequence));
    const std::span<const int32_t> held_tokens = entered->cache().tokens(sequence);
    return flexq::api::fill_buffer(held_tokens.data(), static_cast<int32_t>(held_tokens.size()),
                                   tokens, capacity, n_tokens, "tokens of a sequence");
  });
}

flexq_status flexq_context_set_sequence_note(flexq_context* context, int32_t sequence,
                                             const void* note, int64_t note_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    if (note_bytes < 0) return flexq::api::negative_length("note_bytes", note_bytes);
    if (note_bytes > 0) FLEXQ_REQUIRE(note);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    return entered->set_note(sequence,
                             {static_cast<const uint8_t*>(note), static_cast<size_t>(note_bytes)});
  });
}

flexq_status flexq_context_sequence_note(const flexq_context* context, int32_t sequence, void* note,
                                         int64_t capacity, int64_t* note_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(context);
    const EnteredContext entered(context);
    FLEXQ_RETURN_IF_ERROR(entered.status());
    FLEXQ_RETURN_IF_ERROR(entered->check_sequence(sequence));
    const std::span<const uint8_t> kept = entered->note(sequence);
    return flexq::api::fill_buffer(kept.data(), static_cast<int64_t>(kept.size()),
                                   static_cast<uint8_t*>(note), capacity, note_bytes,
                                   "note of a sequence");
  });
}

}  // extern "C"
