#include "serve/answers.h"

#include <random>

namespace flexq_tool {
namespace {

void check(flexq_status status, const char* field) {
  if (status != FLEXQ_OK) throw library_error(status, field);
}

Sampling make_sampling(const CompletionRequest& request, uint64_t seed, const ServedModel& model) {
  Sampling sampling;
  check(flexq_sampling_create(Out(sampling)), "");
  flexq_sampling* s = sampling.get();
  check(flexq_sampling_set_temperature(s, static_cast<float>(request.temperature)), "temperature");
  check(flexq_sampling_set_top_k(s, request.top_k), "top_k");
  check(flexq_sampling_set_top_p(s, static_cast<float>(request.top_p)), "top_p");
  check(flexq_sampling_set_min_p(s, static_cast<float>(request.min_p)), "min_p");
  check(flexq_sampling_set_seed(s, seed), "seed");
  check(flexq_sampling_set_penalties(s, static_cast<float>(request.repetition_penalty),
                                     static_cast<float>(request.presence_penalty),
                                     static_cast<float>(request.frequency_penalty),
                                     model.plan().context_tokens),
        "presence_penalty");
  for (const auto& [token, bias] : request.logit_bias) {
    if (token >= model.info().n_vocab) {
      throw ApiError(400,
                     "logit_bias: expected token ids below " +
                         std::to_string(model.info().n_vocab) + ", found " + std::to_string(token),
                     "logit_bias");
    }
    check(flexq_sampling_set_logit_bias(s, token, static_cast<float>(bias)), "logit_bias");
  }
  return sampling;
}

GeneratorOptions make_options(const CompletionRequest& request, uint64_t seed,
                              const ServedModel& model, int64_t timeout_ms) {
  const Sampling sampling = make_sampling(request, seed, model);
  GeneratorOptions options;
  check(flexq_generator_options_create(Out(options)), "");
  flexq_generator_options* o = options.get();
  check(flexq_generator_options_set_sampling(o, sampling.get()), "");
  check(flexq_generator_options_set_max_tokens(o, request.max_tokens), "max_tokens");
  for (const std::string& stop : request.stop) {
    check(flexq_generator_options_add_stop(o, stop.data(), static_cast<int64_t>(stop.size())),
          "stop");
  }
  check(flexq_generator_options_set_ignore_end(o, request.ignores_end ? 1 : 0), "ignore_eos");
  check(flexq_generator_options_set_deadline(o, timeout_ms), "");
  if (request.n_log_probs >= 0) {
    check(flexq_generator_options_set_log_probs(o, request.n_log_probs), "logprobs");
  }
  if (request.is_json) {
    check(flexq_generator_options_set_format(o, "json"), "response_format");
  }
  check(flexq_generator_options_set_priority(o, request.priority), "priority");
  return options;
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

Answers::Answers(std::shared_ptr<ServedModel> model, const CompletionRequest& request,
                 const char* chat_template, int64_t timeout_ms)
    : n_per_prompt_(static_cast<size_t>(request.n)),
      model_(std::move(model)),
      random_seed_(request.seed ? static_cast<uint64_t>(*request.seed) : random_seed()),
      begin_(Clock::now()) {
  for (size_t prompt = 0; prompt < request.n_prompts(); ++prompt) {
    for (int32_t i = 0; i < request.n; ++i) {
      Answer answer;
      answer.request = submit(request, prompt, i, chat_template, timeout_ms);
      answers_.push_back(std::move(answer));
    }
  }
}

EngineRequest Answers::submit(const CompletionRequest& request, size_t prompt, int32_t choice,
                              const char* chat_template, int64_t timeout_ms) const {
  // Answers to one prompt differ by their seeds.
  const uint64_t seed = random_seed_ + static_cast<uint64_t>(choice);
  const GeneratorOptions options = make_options(request, seed, *model_, timeout_ms);
  EngineRequest submitted;
  if (request.is_chat) {
    check(flexq_engine_submit_chat(model_->engine(), options.get(), chat_template,
                                   request.chat.get(), Out(submitted)),
          "messages");
  } else if (const auto* text = std::get_if<PromptText>(&request.prompts[prompt])) {
    check(flexq_engine_submit(model_->engine(), options.get(), text->data(),
                              static_cast<int64_t>(text->size()), FLEXQ_ENCODE_DEFAULT,
                              Out(submitted)),
          "prompt");
  } else {
    const auto& tokens = std::get<PromptTokens>(request.prompts[prompt]);
    check(flexq_engine_submit_tokens(model_->engine(), options.get(), tokens.data(),
                                     static_cast<int32_t>(tokens.size()), Out(submitted)),
          "prompt");
  }
  return submitted;
}

bool Answers::run(const std::function<bool(const AnswerPiece&)>& on_piece,
                  const std::function<bool()>& is_over) {
  const auto cancel = [this] {
    for (const Answer& answer : answers_)
      flexq_request_cancel(answer.request.get());
    return false;
  };
  Clock::time_point last_poll = Clock::now();
  size_t n_open = answers_.size();
  while (n_open > 0) {
    // The answers advance together: who waits for one of them finds events of the others.
    bool has_waited = false;
    for (size_t i = 0; i < answers_.size(); ++i) {
      AnswerPiece piece;
      while (answers_[i].is_open && next(i, has_waited ? 0 : kPollInterval.count(), piece)) {
        has_waited = true;
        if (piece.is_last) --n_open;
        if (!on_piece(piece)) return cancel();
        piece = AnswerPiece();
      }
      has_waited = has_waited || answers_[i].is_open;
      if (Clock::now() - last_poll >= kPollInterval) {
        if (is_over()) return cancel();
        last_poll = Clock::now();
      }
    }
  }
  return true;
}

bool Answers::next(size_t choice, int64_t timeout_ms, AnswerPiece& piece) {
  Answer& answer = answers_[choice];
  flexq_token_event event = {};
  event.struct_size = sizeof event;
  const flexq_status status = flexq_request_next(answer.request.get(), timeout_ms, &event);
  if (status != FLEXQ_OK) throw library_error(status);
  const bool is_last = event.finish_reason != FLEXQ_FINISH_NONE;
  if (event.token < 0 && !is_last) return false;
  piece.choice = static_cast<int32_t>(choice);
  if (event.text_bytes > 0) piece.text.assign(event.text, static_cast<size_t>(event.text_bytes));
  piece.is_last = is_last;
  if (is_last) {
    answer.is_open = false;
    piece.finish_reason = event.finish_reason == FLEXQ_FINISH_STOP ? "stop" : "length";
  }
  if (event.token >= 0) {
    answer.last_token = Clock::now();
    if (answer.n_tokens++ == 0) answer.first_token = answer.last_token;
    piece.has_token = true;
    piece.token = {event.token, event.log_prob};
    for (int32_t i = 0; i < event.n_alternatives; ++i) {
      piece.alternatives.push_back({event.alternative_tokens[i], event.alternative_log_probs[i]});
    }
  }
  return true;
}

Usage Answers::usage() const {
  Usage usage;
  // The n answers to a prompt share it: its tokens count once, as at OpenAI.
  for (size_t i = 0; i < answers_.size(); ++i) {
    flexq_request_stats stats = {};
    stats.struct_size = sizeof stats;
    if (flexq_request_get_stats(answers_[i].request.get(), &stats) != FLEXQ_OK) continue;
    usage.completion_tokens += stats.n_generated_tokens;
    if (i % n_per_prompt_ != 0) continue;
    usage.prompt_tokens += stats.n_prompt_tokens;
    usage.cached_tokens += stats.n_reused_tokens;
  }
  return usage;
}

std::vector<double> Answers::seconds_to_first_token() const {
  std::vector<double> seconds;
  for (const Answer& answer : answers_) {
    if (answer.n_tokens == 0) continue;
    seconds.push_back(std::chrono::duration<double>(answer.first_token - begin_).count());
  }
  return seconds;
}

std::vector<double> Answers::seconds_per_output_token() const {
  std::vector<double> seconds;
  for (const Answer& answer : answers_) {
    if (answer.n_tokens < 2) continue;
    const std::chrono::duration<double> span = answer.last_token - answer.first_token;
    seconds.push_back(span.count() / static_cast<double>(answer.n_tokens - 1));
  }
  return seconds;
}

}  // namespace flexq_tool
