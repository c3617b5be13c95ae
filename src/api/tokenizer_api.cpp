#include "api/handles.h"

using flexq::Status;
using flexq::StatusCode;
using flexq::api::guarded;
using flexq::api::guarded_value;
using flexq::api::Held;

extern "C" {

flexq_status flexq_tokenizer_open(flexq_source* source, flexq_tokenizer** tokenizer) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(source);
    FLEXQ_REQUIRE(tokenizer);
    const Held held(source);
    auto made = std::make_unique<flexq_tokenizer>();
    FLEXQ_ASSIGN_OR_RETURN(made->tokenizer,
                           flexq::load_tokenizer(held->source, flexq::LoadOptions()));
    *tokenizer = made.release();
    return Status();
  });
}

flexq_status flexq_model_tokenizer(const flexq_model* model, flexq_tokenizer** tokenizer) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(model);
    FLEXQ_REQUIRE(tokenizer);
    const Held held(model);
    if (held->model->tokenizer == nullptr) {
      return Status::error(StatusCode::kNotFound, "the model has no tokenizer");
    }
    auto made = std::make_unique<flexq_tokenizer>();
    made->tokenizer = held->model->tokenizer;
    *tokenizer = made.release();
    return Status();
  });
}

void flexq_tokenizer_release(flexq_tokenizer* tokenizer) {
  flexq::api::drop_reference(tokenizer);
}

int32_t flexq_tokenizer_vocab_size(const flexq_tokenizer* tokenizer) {
  const Held held(tokenizer);
  return held ? held->tokenizer->n_vocab() : 0;
}

flexq_status flexq_tokenizer_encode(const flexq_tokenizer* tokenizer, const char* text,
                                    int64_t text_bytes, int32_t flags, int32_t* tokens,
                                    int32_t capacity, int32_t* n_tokens) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    std::string_view view;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_text("text", text, text_bytes, &view));
    flexq::EncodeOptions options;
    FLEXQ_RETURN_IF_ERROR(flexq::api::make_encode_options(flags, &options));
    FLEXQ_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, held->tokenizer->encode(view, options));
    return flexq::api::fill_buffer(ids.data(), static_cast<int32_t>(ids.size()), tokens, capacity,
                                   n_tokens, "token buffer");
  });
}

flexq_status flexq_tokenizer_decode(const flexq_tokenizer* tokenizer, const int32_t* tokens,
                                    int32_t n_tokens, char* text, int64_t capacity,
                                    int64_t* text_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    if (n_tokens < 0) return flexq::api::invalid_range("n_tokens", 0, INT32_MAX, n_tokens);
    if (n_tokens > 0) FLEXQ_REQUIRE(tokens);
    FLEXQ_ASSIGN_OR_RETURN(const std::string decoded,
                           held->tokenizer->decode({tokens, static_cast<size_t>(n_tokens)}));
    return flexq::api::fill_text(decoded, text, capacity, text_bytes);
  });
}

flexq_status flexq_tokenizer_token_bytes(const flexq_tokenizer* tokenizer, int32_t token,
                                         char* bytes, int64_t capacity, int64_t* n_bytes) {
  return guarded([&]() -> Status {
    FLEXQ_REQUIRE(tokenizer);
    const Held held(tokenizer);
    const int32_t n_vocab = held->tokenizer->n_vocab();
    if (token < 0 || token >= n_vocab) {
      return flexq::api::invalid_range("token", 0, n_vocab - 1, token);
    }
    return flexq::api::fill_text(held->tokenizer->piece_bytes(token), bytes, capacity, n_bytes);
  });
}

}  // extern "C"
