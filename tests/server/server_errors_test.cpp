// flexq serve: what is wrong with a request is said in an answer of 4xx with OpenAI's JSON,
// whatever the bytes are, and the server goes on.
#include <doctest/doctest.h>

#include <thread>

#include "server/server_process.h"
#include "support/test_data.h"
#include "tool/slow_model.h"

using namespace flexq::test;
using Json = nlohmann::json;

namespace {

const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

ServerProcess& server() {
  static ServerProcess server({kWikiTiny, "--chat-template", "vicuna", "--model-name", "tiny",
                               "--max-request-bytes", "100000"});
  return server;
}

// The error object of a whole HTTP answer, or of a body.
Json error_of(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  REQUIRE_MESSAGE(json.is_object(), body);
  const Json& error = json.at("error");
  CHECK(error.at("message").is_string());
  CHECK(error.at("type").is_string());
  CHECK((error.at("param").is_null() || error.at("param").is_string()));
  CHECK((error.at("code").is_null() || error.at("code").is_string()));
  return error;
}

Json post_error(const std::string& path, const std::string& body, int status,
                const char* type = "application/json") {
  const httplib::Result result = server().client().Post(path, body, type);
  CAPTURE(body.substr(0, 200));
  REQUIRE(result);
  CAPTURE(result->body);
  CHECK(result->status == status);
  return error_of(result->body);
}

struct BadField {
  const char* path;  // "c": /v1/completions, "chat"
  const char* body;
  const char* param;
};

std::string full_path(const char* path) {
  return std::string_view(path) == "c" ? "/v1/completions" : "/v1/chat/completions";
}

#define USER R"("messages":[{"role":"user","content":"x"}])"

const BadField kBadFields[] = {
    {"c", R"({})", "prompt"},
    {"c", R"({"prompt":5})", "prompt"},
    {"c", R"({"prompt":[]})", "prompt"},
    {"c", R"({"prompt":[1,"x"]})", "prompt"},
    {"c", R"({"prompt":["x",5]})", "prompt[1]"},
    {"c", R"({"prompt":[[1],[-1]]})", "prompt[1]"},
    {"c", R"({"prompt":[99999]})", "prompt"},
    {"c", R"({"prompt":[4294967297]})", "prompt"},
    {"c", R"({"prompt":[[]]})", "prompt"},
    {"c", R"({"prompt":"x","max_tokens":0})", "max_tokens"},
    {"c", R"({"prompt":"x","max_tokens":-1})", "max_tokens"},
    {"c", R"({"prompt":"x","max_tokens":1.5})", "max_tokens"},
    {"c", R"({"prompt":"x","max_tokens":"5"})", "max_tokens"},
    {"c", R"({"prompt":"x","max_tokens":99999999999999999999})", "max_tokens"},
    {"c", R"({"prompt":"x","temperature":-0.1})", "temperature"},
    {"c", R"({"prompt":"x","temperature":2.1})", "temperature"},
    {"c", R"({"prompt":"x","temperature":"hot"})", "temperature"},
    {"c", R"({"prompt":"x","top_p":1.1})", "top_p"},
    {"c", R"({"prompt":"x","min_p":-1})", "min_p"},
    {"c", R"({"prompt":"x","top_k":1e9})", "top_k"},
    {"c", R"({"prompt":"x","n":0})", "n"},
    {"c", R"({"prompt":"x","n":129})", "n"},
    {"c", R"({"prompt":"x","seed":1e30})", "seed"},
    {"c", R"({"prompt":"x","stop":5})", "stop"},
    {"c", R"({"prompt":"x","stop":[5]})", "stop"},
    {"c", R"({"prompt":"x","stop":""})", "stop"},
    {"c", R"({"prompt":"x","stream":"yes"})", "stream"},
    {"c", R"({"prompt":"x","stream_options":{"include_usage":true}})", "stream_options"},
    {"c", R"({"prompt":"x","stream":true,"stream_options":{"include_usage":1}})",
     "stream_options.include_usage"},
    {"c", R"({"prompt":"x","logprobs":21})", "logprobs"},
    {"c", R"({"prompt":"x","logprobs":true})", "logprobs"},
    {"c", R"({"prompt":"x","presence_penalty":3})", "presence_penalty"},
    {"c", R"({"prompt":"x","frequency_penalty":-3})", "frequency_penalty"},
    {"c", R"({"prompt":"x","logit_bias":[1]})", "logit_bias"},
    {"c", R"({"prompt":"x","logit_bias":{"x":1}})", "logit_bias"},
    {"c", R"({"prompt":"x","logit_bias":{"5":101}})", "logit_bias.5"},
    {"c", R"({"prompt":"x","logit_bias":{"99999":1}})", "logit_bias"},
    {"c", R"({"prompt":"x","response_format":{"type":"xml"}})", "response_format.type"},
    {"c", R"({"prompt":"x","response_format":{"type":"json_schema"}})", "response_format.type"},
    {"c", R"({"prompt":"x","response_format":"json"})", "response_format"},
    {"c", R"({"prompt":"x","user":5})", "user"},
    {"c", R"({"prompt":"x","priority":101})", "priority"},
    {"c", R"({"prompt":"x","echo":true})", "echo"},
    {"c", R"({"prompt":"x","best_of":2})", "best_of"},
    {"c", R"({"prompt":"x","suffix":"end"})", "suffix"},
    {"chat", R"({})", "messages"},
    {"chat", R"({"messages":[]})", "messages"},
    {"chat", R"({"messages":"x"})", "messages"},
    {"chat", R"({"messages":["x"]})", "messages[0]"},
    {"chat", R"({"messages":[{"role":"user"}]})", "messages[0].content"},
    {"chat", R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role"},
    {"chat", R"({"messages":[{"content":"x"}]})", "messages[0].role"},
    {"chat", R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
     "messages[0].content[0].type"},
    {"chat", R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})",
     "messages[0].content[0].text"},
    {"chat", R"({"messages":[{"role":"user","content":"x","name":"Bob"}]})", "messages[0].name"},
    {"chat", R"({"messages":[{"role":"user","content":"x","tool_calls":[1]}]})",
     "messages[0].tool_calls"},
    {"chat", "{" USER R"(,"tools":[{"type":"function"}]})", "tools"},
    {"chat", "{" USER R"(,"tool_choice":"auto"})", "tool_choice"},
    {"chat", "{" USER R"(,"functions":[{}]})", "functions"},
    {"chat", "{" USER R"(,"audio":{"voice":"x"}})", "audio"},
    {"chat", "{" USER R"(,"modalities":["audio"]})", "modalities"},
    {"chat", "{" USER R"(,"top_logprobs":2})", "top_logprobs"},
    {"chat", "{" USER R"(,"logprobs":true,"top_logprobs":21})", "top_logprobs"},
    {"chat", "{" USER R"(,"logprobs":1})", "logprobs"},
    {"chat", "{" USER R"(,"max_completion_tokens":0})", "max_completion_tokens"},
};

}  // namespace

TEST_CASE("wrong and unsupported fields are named") {
  for (const BadField& bad : kBadFields) {
    CAPTURE(bad.body);
    const Json error = post_error(full_path(bad.path), bad.body, 400);
    CHECK(error["type"] == "invalid_request_error");
    CHECK(error["param"] == bad.param);
  }
}

TEST_CASE("fields that ask for nothing, and harmless unknown ones, pass") {
  for (const char* more :
       {R"("echo":false)", R"("best_of":1)", R"("suffix":null)", R"("suffix":"")", R"("tools":[])",
        R"("tool_choice":"none")", R"("user":"u")", R"("metadata":{"a":"b"})", R"("store":false)",
        R"("something_new":1)", R"("logprobs":null)", R"("stop":null)", R"("service_tier":"auto")",
        R"("top_k":-1)", R"("priority":5)", R"("functions":null)"}) {
    CAPTURE(more);
    const std::string body = R"({"prompt":"x","max_tokens":1,)" + std::string(more) + "}";
    const httplib::Result result =
        server().client().Post("/v1/completions", body, "application/json");
    REQUIRE(result);
    CHECK_MESSAGE(result->status == 200, result->body);
  }
}

TEST_CASE("bodies that are not a JSON object") {
  std::string deep(50000, '[');
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("5"),
        std::string(R"({"prompt":"x"} x)"), std::string("{\"prompt\":\"\xff\"}"),
        std::string("{\"prompt\":\"\xed\xa0\x80\"}"), std::string(R"({"prompt":"\ud800"})"),
        std::string(R"({"prompt":"x","temperature":1e999})"),
        std::string(R"({"prompt":"x","temperature":NaN})"), std::string("{\"prompt\":\"\0\"}", 14),
        deep, R"({"prompt":)" + deep, R"({"prompt":"x","metadata":)" + deep}) {
    post_error("/v1/completions", body, 400);
  }
  std::string closed =
      R"({"prompt":"x","user":)" + std::string(200, '[') + std::string(200, ']') + "}";
  post_error("/v1/completions", closed, 400);
  // A zero byte in a prompt is text.
  CHECK(server().post("/v1/completions", {{"prompt", std::string("a\0b", 3)}})["choices"].size() ==
        1);
}

TEST_CASE("prompts that do not fit") {
  const std::string words = [] {
    std::string text;
    for (int i = 0; i < 3000; ++i)
      text += "city ";
    return text;
  }();
  const Json error = post_error("/v1/completions", Json{{"prompt", words}}.dump(), 400);
  CHECK(error["code"] == "context_length_exceeded");
  CHECK(error["message"].get<std::string>().find("512") != std::string::npos);
}

TEST_CASE("paths, methods, types, sizes, models") {
  httplib::Client client = server().client();
  const auto check = [](const httplib::Result& result, int status) {
    REQUIRE(result);
    CHECK(result->status == status);
    return error_of(result->body);
  };
  check(client.Get("/"), 404);
  check(client.Get("/v1/completion"), 404);
  check(client.Get("/v1/../v1/models"), 404);
  check(client.Get("/" + std::string(8000, 'a')), 404);
  check(client.Get("/admin/reload"), 404);
  check(client.Post("/admin/reload", "{}", "application/json"), 404);  // there is no key
  check(client.Get("/v1/completions"), 405);
  check(client.Delete("/v1/models"), 405);
  check(client.Put("/v1/completions", "{}", "application/json"), 405);
  const httplib::Result get = client.Get("/v1/chat/completions");
  REQUIRE(get);
  CHECK(get->get_header_value("Allow") == "POST");
  check(client.Options("/v1/models"), 405);
  post_error("/v1/completions", "prompt=x", 415, "application/x-www-form-urlencoded");
  post_error("/v1/completions", "x", 415, "multipart/form-data; boundary=x");
  check(client.Post("/v1/completions", {{"Content-Encoding", "gzip"}}, R"({"prompt":"x"})",
                    "application/json"),
        415);
  post_error("/v1/completions", std::string(100001, ' '), 413);
  const Json model = post_error("/v1/completions", R"({"prompt":"x","model":"gpt-4"})", 404);
  CHECK(model["code"] == "model_not_found");
  CHECK(model["param"] == "model");
}

TEST_CASE("bytes that are not HTTP, and bodies that do not come as announced") {
  const auto answer = [](const std::string& bytes) {
    const RawConnection connection(server().port());
    connection.send(bytes);
    return connection.receive();
  };
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";
  const std::string body = R"({"prompt":"x","max_tokens":1})";
  for (const std::string& bytes : {
           std::string("\r\n\r\n"),
           std::string("nonsense\r\n\r\n"),
           std::string("GET / HTTP/3.7\r\n\r\n"),
           std::string(200000, 'A'),
           "GET /" + std::string(100000, 'a') + " HTTP/1.1\r\n\r\n",
           "GET /health HTTP/1.1\r\nX: " + std::string(100000, 'a') + "\r\n\r\n",
           head + "Content-Length: -1\r\n\r\n" + body,
           head + "Content-Length: 99999999999999999999\r\n\r\n" + body,
           head + "Content-Length: 29\r\nContent-Length: 29\r\n\r\n" + body,
           head + "Content-Length: 29\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
           head + "Transfer-Encoding: gzip\r\n\r\n" + body,
           head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
           head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
       }) {
    CAPTURE(bytes.substr(0, 120));
    const std::string text = answer(bytes);
    // Where what came is no request at all, the connection may just end.
    if (text.empty()) continue;
    CHECK(text.starts_with("HTTP/1.1 4"));
    error_of(text.substr(text.find("\r\n\r\n") + 4));
  }
  // Chunks are read, up to the limit.
  CHECK(answer(head + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\n" + body +
               "\r\n0\r\n\r\n")
            .starts_with("HTTP/1.1 200"));
  std::string chunks;
  for (int i = 0; i < 200; ++i)
    chunks += "400\r\n" + std::string(1024, ' ') + "\r\n";
  CHECK(answer(head + "Transfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n\r\n")
            .starts_with("HTTP/1.1 413"));
  // What is left of a refused body is not the next request.
  const std::string smuggled = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string twice = answer("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                                   std::to_string(smuggled.size()) + "\r\n\r\n" + smuggled);
  CHECK(twice.starts_with("HTTP/1.1 404"));
  CHECK(twice.find("200 OK") == std::string::npos);
  CHECK(server().client().Get("/health"));
}

TEST_CASE("the API key opens everything but /health, which needs none") {
  TemporaryDirectory directory;
  write_whole_file(directory.file("key"), "s3cret-key\n");
  ServerProcess guarded({kWikiTiny, "--api-key-file", directory.file("key")});
  httplib::Client client = guarded.client();
  const auto status = [&](const httplib::Headers& headers) {
    const httplib::Result result = client.Get("/v1/models", headers);
    REQUIRE(result);
    if (result->status != 200) CHECK(error_of(result->body)["code"] == "invalid_api_key");
    return result->status;
  };
  CHECK(status({}) == 401);
  CHECK(status({{"Authorization", "Bearer"}}) == 401);
  CHECK(status({{"Authorization", "Bearer "}}) == 401);
  CHECK(status({{"Authorization", "Bearer s3cret-kex"}}) == 401);
  CHECK(status({{"Authorization", "Bearer s3cret-ke"}}) == 401);
  CHECK(status({{"Authorization", "Bearer s3cret-keyy"}}) == 401);
  CHECK(status({{"Authorization", "Basic s3cret-key"}}) == 401);
  CHECK(status({{"Authorization", "Bearer s3cret-keyBearer s3cret-key"}}) == 401);
  CHECK(status({{"Authorization", "Bearer s3cret-key"}}) == 200);
  CHECK(client.Get("/health")->status == 200);
  CHECK(client.Get("/metrics")->status == 401);
  CHECK(client.Get("/nowhere")->status == 401);
  CHECK(client.Post("/v1/completions", "{}", "application/json")->status == 401);
}

TEST_CASE("a full queue is 429, a deadline 504") {
  ServerProcess busy({slow_model(), "--sequences", "1", "--queue", "1", "--timeout", "2"});
  const std::string body =
      Json{{"prompt", "x"}, {"max_tokens", 4000}, {"ignore_eos", true}, {"temperature", 0}}.dump();
  std::vector<std::thread> waiting;
  for (int i = 0; i < 2; ++i) {
    waiting.emplace_back([&busy, &body] {
      const httplib::Result result =
          busy.client().Post("/v1/completions", body, "application/json");
      REQUIRE(result);
      CHECK(result->status == 504);
      CHECK(error_of(result->body)["code"] == "timeout");
    });
    busy.wait_for_metric(i == 0 ? "flexq_requests_running" : "flexq_requests_waiting", 1);
  }
  const httplib::Result refused = busy.client().Post("/v1/completions", body, "application/json");
  REQUIRE(refused);
  CHECK(refused->status == 429);
  CHECK(refused->get_header_value("Retry-After") == "1");
  CHECK(error_of(refused->body)["code"] == "queue_full");
  for (std::thread& thread : waiting)
    thread.join();
  // In a stream the error is an event.
  Json stream = Json::parse(body);
  stream["stream"] = true;
  const httplib::Result streamed =
      busy.client().Post("/v1/completions", stream.dump(), "application/json");
  REQUIRE(streamed);
  CHECK(error_of(stream_events(streamed->body).back())["code"] == "timeout");
}

TEST_CASE("wrong usage of the command") {
  check_failure(run_tool({"serve", kWikiTiny, "--port", "70000"}), 2, {"--port"});
  check_failure(run_tool({"serve", kWikiTiny, "--kv-type", "i3"}), 2, {"--kv-type"});
  check_failure(run_tool({"serve", kWikiTiny, "--chat-template", "x"}), 2, {"--chat-template"});
  check_failure(run_tool({"serve", kWikiTiny, "--api-key", "a b"}), 1, {"--api-key"});
  check_failure(run_tool({"serve", kWikiTiny, "--host", "256.0.0.1"}), 1, {"256.0.0.1"});
  check_failure(run_tool({"serve", kWikiTiny, "--access-log", "/nowhere/log"}), 1,
                {"/nowhere/log"});
  check_failure(run_tool({"serve", "/nowhere"}), 1, {"/nowhere"});
  ServerProcess other({kWikiTiny});
  check_failure(run_tool({"serve", kWikiTiny, "--port", std::to_string(other.port())}), 1,
                {"Address already in use"});
}
