// flexq serve: every endpoint, and that its texts are those of `flexq run`.
#include <doctest/doctest.h>

#include <algorithm>

#include "server/server_process.h"
#include "support/test_data.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");
const std::string kPrompt = "The history of the city";

ServerProcess& server() {
  static ServerProcess server(
      {kWikiTiny, "--chat-template", "vicuna", "--model-name", "tiny", "--threads", "2"});
  return server;
}

Json greedy(const Json& more = Json::object()) {
  Json body = {{"prompt", kPrompt}, {"temperature", 0}, {"max_tokens", 24}};
  body.update(more);
  return body;
}

// What the tool says to the same prompt.
Json run_greedy(const std::string& n_tokens = "24") {
  return run_json({"run", kWikiTiny, "-p", kPrompt, "-n", n_tokens});
}

Json chat_body(const Json& more = Json::object()) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "Who was the king?"}}}},
               {"temperature", 0},
               {"max_tokens", 16}};
  body.update(more);
  return body;
}

// A streamed answer as a whole: its events, the last of which is [DONE].
std::vector<Json> stream(const std::string& path, Json body) {
  body["stream"] = true;
  const httplib::Result result = server().client().Post(path, body.dump(), "application/json");
  REQUIRE(result);
  REQUIRE_MESSAGE(result->status == 200, result->body);
  CHECK(result->get_header_value("Content-Type").starts_with("text/event-stream"));
  CHECK(result->get_header_value("X-Accel-Buffering") == "no");
  const std::vector<std::string> events = stream_events(result->body);
  REQUIRE(!events.empty());
  CHECK(events.back() == "[DONE]");
  std::vector<Json> chunks;
  for (size_t i = 0; i + 1 < events.size(); ++i)
    chunks.push_back(Json::parse(events[i]));
  return chunks;
}

}  // namespace

TEST_CASE("models, health and metrics") {
  httplib::Client client = server().client();
  const httplib::Result models = client.Get("/v1/models");
  REQUIRE(models);
  const Json list = Json::parse(models->body);
  CHECK(list["object"] == "list");
  REQUIRE(list["data"].size() == 1);
  CHECK(list["data"][0]["id"] == "tiny");
  CHECK(list["data"][0]["max_model_len"] == 512);
  const httplib::Result health = client.Get("/health");
  REQUIRE(health);
  CHECK(health->body == R"({"status":"ok"})");
  const auto metrics = server().metrics();
  CHECK(metrics.at("flexq_requests_running") == 0);
  CHECK(metrics.at("flexq_kv_pages") > 0);
  CHECK(metrics.contains("flexq_completion_seconds_bucket{le=\"+Inf\"}"));
  CHECK(metrics.contains(R"(flexq_model_info{model="tiny",policy="none",device="cpu"})"));
  const httplib::Result head = client.Head("/health");
  REQUIRE(head);
  CHECK(head->status == 200);
  CHECK(head->body.empty());
}

TEST_CASE("a completion is what flexq run writes") {
  const Json expected = run_greedy();
  const Json answer = server().post("/v1/completions", greedy({{"model", "tiny"}}));
  CHECK(answer["object"] == "text_completion");
  CHECK(answer["model"] == "tiny");
  CHECK(answer["id"].get<std::string>().starts_with("cmpl-"));
  CHECK(answer["created"].get<int64_t>() > 1700000000);
  REQUIRE(answer["choices"].size() == 1);
  const Json& choice = answer["choices"][0];
  CHECK(choice["text"] == expected["text"]);
  CHECK(choice["index"] == 0);
  CHECK(choice["finish_reason"] == expected["finish_reason"]);
  CHECK(choice["logprobs"].is_null());
  const auto n_prompt = expected["prompt_tokens"].size();
  const auto n_generated = expected["tokens"].size();
  CHECK(answer["usage"]["prompt_tokens"] == n_prompt);
  CHECK(answer["usage"]["completion_tokens"] == n_generated);
  CHECK(answer["usage"]["total_tokens"] == n_prompt + n_generated);
  CHECK(answer["usage"]["prompt_tokens_details"]["cached_tokens"].is_number_integer());

  // OpenAI's default length.
  Json shorter = greedy();
  shorter.erase("max_tokens");
  CHECK(server().post("/v1/completions", shorter)["choices"][0]["text"] ==
        run_greedy("16")["text"]);
}

TEST_CASE("prompts as token ids and in lists, several answers each") {
  const Json expected = run_greedy();
  const Json ids = expected["prompt_tokens"];
  CHECK(server().post("/v1/completions", greedy({{"prompt", ids}}))["choices"][0]["text"] ==
        expected["text"]);
  const Json both = server().post(
      "/v1/completions", greedy({{"prompt", {kPrompt, "In 1914"}}, {"n", 2}, {"stop", nullptr}}));
  REQUIRE(both["choices"].size() == 4);
  const Json other = server().post("/v1/completions", greedy({{"prompt", "In 1914"}}));
  for (size_t i = 0; i < 4; ++i) {
    CHECK(both["choices"][i]["index"] == i);
    CHECK(both["choices"][i]["text"] == (i < 2 ? expected["text"] : other["choices"][0]["text"]));
  }
  CHECK(both["usage"]["prompt_tokens"] ==
        ids.size() + other["usage"]["prompt_tokens"].get<size_t>());
  CHECK(server().post("/v1/completions", greedy({{"prompt", {ids, ids}}}))["choices"].size() == 2);
}

TEST_CASE("the same seed draws the same text, other answers others") {
  const Json body = greedy({{"temperature", 1.0}, {"seed", -7}, {"n", 3}, {"max_tokens", 32}});
  const Json first = server().post("/v1/completions", body)["choices"];
  CHECK(server().post("/v1/completions", body)["choices"] == first);
  CHECK(first[0]["text"] != first[1]["text"]);
  CHECK(first[1]["text"] != first[2]["text"]);
  const Json unseeded = greedy({{"temperature", 1.0}, {"max_tokens", 32}});
  CHECK(server().post("/v1/completions", unseeded)["choices"] !=
        server().post("/v1/completions", unseeded)["choices"]);
}

TEST_CASE("sampling fields reach the sampler") {
  const Json plain = run_greedy();
  const int32_t first = plain["tokens"][0].get<int32_t>();
  const Json biased =
      server().post("/v1/completions", greedy({{"logit_bias", {{std::to_string(first), -100}}}}));
  CHECK(biased["choices"][0]["text"] !=
        server().post("/v1/completions", greedy())["choices"][0]["text"]);
  // Draws among one token are greedy.
  for (const Json& one : {Json{{"top_k", 1}}, Json{{"top_p", 0.0}}, Json{{"min_p", 1.0}}}) {
    Json body = greedy({{"temperature", 2.0}});
    body.update(one);
    CAPTURE(body.dump());
    CHECK(server().post("/v1/completions", body)["choices"][0]["text"] == plain["text"]);
  }
  for (const char* name : {"presence_penalty", "frequency_penalty"}) {
    CHECK(server().post("/v1/completions", greedy({{name, 2}}))["choices"][0]["text"] !=
          plain["text"]);
  }
}

TEST_CASE("stop strings end the text before them") {
  const std::string text = run_greedy()["text"];
  const std::string stop = text.substr(10, 4);
  for (const Json& value : {Json(stop), Json{"never in it", stop}}) {
    const Json choice = server().post("/v1/completions", greedy({{"stop", value}}))["choices"][0];
    CHECK(choice["text"] == text.substr(0, text.find(stop)));
    CHECK(choice["finish_reason"] == "stop");
  }
}

TEST_CASE("log probabilities in both shapes") {
  const Json run = run_json({"run", kWikiTiny, "-p", kPrompt, "-n", "6", "--log-probs", "2"});
  const Json choice =
      server().post("/v1/completions", greedy({{"max_tokens", 6}, {"logprobs", 2}}))["choices"][0];
  const Json& lists = choice["logprobs"];
  REQUIRE(lists["tokens"].size() == run["tokens"].size());
  std::string text;
  for (size_t i = 0; i < run["tokens"].size(); ++i) {
    CHECK(lists["token_logprobs"][i].get<double>() ==
          doctest::Approx(run["log_probs"][i]["log_prob"].get<double>()));
    CHECK(lists["top_logprobs"][i].size() == 2);
    CHECK(lists["text_offset"][i] == text.size());
    text += lists["tokens"][i].get<std::string>();
  }
  CHECK(text == choice["text"]);

  const Json chat = server().post(
      "/v1/chat/completions", chat_body({{"logprobs", true}, {"top_logprobs", 3}}))["choices"][0];
  const Json& content = chat["logprobs"]["content"];
  REQUIRE(!content.empty());
  for (const Json& entry : content) {
    REQUIRE(entry["top_logprobs"].size() == 3);
    CHECK(entry["top_logprobs"][0]["token"] == entry["token"]);
    CHECK(entry["logprob"].get<double>() <= 0);
    CHECK(entry["bytes"].size() >= entry["token"].get<std::string>().size());
  }
  CHECK(server().post("/v1/chat/completions", chat_body())["choices"][0]["logprobs"].is_null());
}

TEST_CASE("a conversation is what flexq chat answers") {
  const ToolResult tool = run_tool(
      {"chat", kWikiTiny, "--template", "vicuna", "-n", "16", "--json", "--temperature", "0"},
      {.stdin_text = "Who was the king?\n"});
  REQUIRE(tool.exit_code == 0);
  const Json expected = Json::parse(tool.out);
  const Json answer = server().post("/v1/chat/completions", chat_body());
  CHECK(answer["object"] == "chat.completion");
  CHECK(answer["id"].get<std::string>().starts_with("chatcmpl-"));
  const Json& choice = answer["choices"][0];
  CHECK(choice["message"]["role"] == "assistant");
  // The tool leaves out white space in front of an answer.
  const std::string content = choice["message"]["content"];
  CHECK(content.substr(std::min(content.find_first_not_of(" \n"), content.size())) ==
        expected["text"]);
  CHECK(answer["usage"]["prompt_tokens"] == expected["n_prompt_tokens"]);

  // Text parts are one text; developer is system; the newer name of max_tokens.
  const Json parts = {{{"type", "text"}, {"text", "Who was"}},
                      {{"type", "text"}, {"text", " the king?"}}};
  CHECK(server().post(
            "/v1/chat/completions",
            chat_body({{"messages",
                        {{{"role", "user"}, {"content", parts}}}}}))["choices"][0]["message"] ==
        choice["message"]);
  const auto with_role = [](const char* role) {
    Json body = chat_body({{"max_completion_tokens", 16},
                           {"messages",
                            {{{"role", role}, {"content", "Be brief."}},
                             {{"role", "user"}, {"content", "Who was the king?"}}}}});
    body.erase("max_tokens");
    return server().post("/v1/chat/completions", body);
  };
  CHECK(with_role("developer")["choices"] == with_role("system")["choices"]);
  // In place of the format's own instructions.
  CHECK(with_role("system")["usage"]["prompt_tokens"] != answer["usage"]["prompt_tokens"]);
}

TEST_CASE("response_format json_object gives a JSON object") {
  const Json answer = server().post(
      "/v1/chat/completions",
      chat_body({{"response_format", {{"type", "json_object"}}}, {"max_tokens", 60}}));
  const std::string text = answer["choices"][0]["message"]["content"];
  CHECK_MESSAGE(Json::parse(text, nullptr, false).is_object(), text);
  CHECK(answer["choices"][0]["finish_reason"] == "stop");
  CHECK(server().post("/v1/chat/completions",
                      chat_body({{"response_format", {{"type", "text"}}}}))["choices"] ==
        server().post("/v1/chat/completions", chat_body())["choices"]);
}

TEST_CASE("streams say what whole answers say") {
  const Json whole = server().post("/v1/completions", greedy({{"n", 2}}));
  std::vector<std::string> texts(2);
  std::vector<std::string> reasons(2);
  for (const Json& chunk : stream("/v1/completions", greedy({{"n", 2}}))) {
    CHECK(chunk["object"] == "text_completion");
    CHECK(!chunk.contains("usage"));
    REQUIRE(chunk["choices"].size() == 1);
    const Json& choice = chunk["choices"][0];
    const size_t index = choice["index"];
    texts[index] += choice["text"].get<std::string>();
    CHECK(reasons[index].empty());
    if (!choice["finish_reason"].is_null()) reasons[index] = choice["finish_reason"];
  }
  for (size_t i = 0; i < 2; ++i) {
    CHECK(texts[i] == whole["choices"][i]["text"]);
    CHECK(reasons[i] == whole["choices"][i]["finish_reason"]);
  }
}

TEST_CASE("a streamed conversation, with usage and log probabilities") {
  const Json options = {{"stream_options", {{"include_usage", true}}}, {"logprobs", true}};
  const Json whole = server().post("/v1/chat/completions", chat_body({{"logprobs", true}}));
  const std::vector<Json> chunks = stream("/v1/chat/completions", chat_body(options));
  REQUIRE(chunks.size() > 3);
  CHECK(chunks[0]["choices"][0]["delta"]["role"] == "assistant");
  std::string text;
  Json log_probs = Json::array();
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    CHECK(chunks[i]["object"] == "chat.completion.chunk");
    CHECK(chunks[i]["id"] == chunks[0]["id"]);
    CHECK(chunks[i]["usage"].is_null());
    const Json& choice = chunks[i]["choices"][0];
    text += choice["delta"].value("content", "");
    if (choice["logprobs"].is_object()) {
      for (const Json& entry : choice["logprobs"]["content"])
        log_probs.push_back(entry);
    }
  }
  CHECK(text == whole["choices"][0]["message"]["content"]);
  CHECK(log_probs == whole["choices"][0]["logprobs"]["content"]);
  CHECK(chunks.back()["choices"].empty());
  CHECK(chunks.back()["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]);
}

TEST_CASE("HTTP/1.0, and requests one after another on a connection") {
  const RawConnection old(server().port());
  const std::string body = greedy({{"stream", true}}).dump();
  old.send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body);
  const std::string answer = old.receive();
  CHECK(answer.find("Transfer-Encoding") == std::string::npos);
  const std::vector<std::string> events = stream_events(answer.substr(answer.find("\r\n\r\n") + 4));
  CHECK(events.back() == "[DONE]");

  httplib::Client client = server().client();
  client.set_keep_alive(true);
  for (int i = 0; i < 20; ++i) {
    const httplib::Result result =
        client.Post("/v1/completions", greedy({{"max_tokens", 1}}).dump(), "application/json");
    REQUIRE(result);
    CHECK(result->status == 200);
  }
  // Two at once, before the first is answered.
  const RawConnection pipelined(server().port());
  pipelined.send(
      "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string both = pipelined.receive();
  CHECK(both.find("HTTP/1.1 200") != both.rfind("HTTP/1.1 200"));
}
