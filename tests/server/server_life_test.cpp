// flexq serve under load and at its end: many requests at once, clients that go, a new model, a
// drain.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <sstream>
#include <thread>

#include "server/server_process.h"
#include "support/test_data.h"
#include "tool/slow_model.h"

using namespace flexq::test;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

namespace {

const std::string kWikiTiny = source_path("tests/data/wiki-tiny-1m");

Json endless(bool streams) {
  return {{"prompt", "x"},
          {"max_tokens", 4000},
          {"ignore_eos", true},
          {"temperature", 0},
          {"stream", streams}};
}

// Different prompts, lengths and seeds.
Json mixed_request(int i) {
  const char* const prompts[] = {"The city", "In the year 1914 the king of France", "A",
                                 "The history of the war between the two"};
  return {{"prompt", prompts[i % 4]},
          {"max_tokens", 4 + i % 29},
          {"temperature", i % 3 == 0 ? 0.0 : 1.0},
          {"seed", i},
          {"top_p", 0.9}};
}

// Between two readings a request may come from the one number into the other.
void check_idle(const ServerProcess& server) {
  const auto metrics =
      server.wait_for_metrics({{"flexq_requests_running", 0}, {"flexq_requests_waiting", 0}});
  CHECK(metrics.at("flexq_kv_pages_used") == 0);
}

}  // namespace

TEST_CASE("64 requests at once get what each gets alone") {
  ServerProcess server({kWikiTiny, "--sequences", "16", "--cache-tokens", "1024"});
  constexpr int kRequests = 64;
  std::vector<std::string> alone(kRequests);
  for (int i = 0; i < kRequests; ++i) {
    const Json body = mixed_request(i);
    alone[static_cast<size_t>(i)] =
        server.post("/v1/completions", body)["choices"][0]["text"].get<std::string>();
  }
  std::vector<std::string> together(kRequests);
  std::vector<std::thread> threads;
  for (int i = 0; i < kRequests; ++i) {
    threads.emplace_back([&, i] {
      together[static_cast<size_t>(i)] =
          server.post("/v1/completions", mixed_request(i))["choices"][0]["text"].get<std::string>();
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  for (size_t i = 0; i < kRequests; ++i) {
    CAPTURE(i);
    CHECK(together[i] == alone[i]);
  }
  check_idle(server);
}

TEST_CASE("a client that goes frees its pages at once") {
  ServerProcess server({slow_model(), "--sequences", "2"});
  for (const bool streams : {true, false}) {
    CAPTURE(streams);
    RawConnection connection(server.port());
    connection.send(post_bytes("/v1/completions", endless(streams).dump()));
    server.wait_for_metric("flexq_requests_running", 1);
    if (streams) CHECK(connection.receive(600).find("data: ") != std::string::npos);
    const double n_before = server.metrics().at("flexq_generated_tokens_total");
    connection.close();
    const Clock::time_point closed = Clock::now();
    const auto metrics = server.wait_for_metrics({{"flexq_requests_running", 0}});
    const std::chrono::duration<double> waited = Clock::now() - closed;
    const double n_tokens = metrics.at("flexq_generated_tokens_total") - n_before;
    MESSAGE("noticed within " << waited.count() << " s, " << n_tokens << " tokens");
    CHECK(metrics.at("flexq_kv_pages_used") == 0);
    // Slow machines: far fewer than the answer would have had.
    CHECK(n_tokens < 2000);
  }
  // One that waits for a place.
  RawConnection first(server.port());
  RawConnection second(server.port());
  RawConnection third(server.port());
  for (const RawConnection* connection : {&first, &second})
    connection->send(post_bytes("/v1/completions", endless(true).dump()));
  server.wait_for_metric("flexq_requests_running", 2);
  third.send(post_bytes("/v1/completions", endless(false).dump()));
  server.wait_for_metric("flexq_requests_waiting", 1);
  third.close();
  server.wait_for_metric("flexq_requests_waiting", 0);
  first.close();
  second.close();
  check_idle(server);
}

TEST_CASE("1,000 requests, many of them given up, leave nothing behind") {
  ServerProcess server({kWikiTiny, "--sequences", "8", "--cache-tokens", "1024", "--queue", "64"});
  constexpr int kRequests = 1000;
  constexpr int kClients = 16;
  std::atomic<int> next = 0;
  std::atomic<int> n_whole = 0;
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&] {
      for (int i = next++; i < kRequests; i = next++) {
        std::mt19937 random(static_cast<uint32_t>(i));
        Json body = mixed_request(i);
        body["stream"] = random() % 2 == 0;
        body["n"] = 1 + random() % 3;
        RawConnection connection(server.port());
        const std::string bytes = post_bytes("/v1/completions", body.dump());
        switch (random() % 4) {
          case 0:  // goes while it sends
            connection.send(bytes.substr(0, random() % bytes.size()));
            break;
          case 1:  // goes after some of the answer
            connection.send(bytes);
            connection.receive(1 + random() % 600);
            break;
          case 2:  // goes at some time
            connection.send(bytes);
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
            break;
          default:
            if (server.client().Post("/v1/completions", body.dump(), "application/json")->status ==
                200) {
              ++n_whole;
            }
        }
      }
    });
  }
  for (std::thread& thread : clients)
    thread.join();
  CHECK(n_whole > kRequests / 8);
  server.wait_for_metric("flexq_http_requests_in_flight", 1);  // the one that asks
  check_idle(server);
  const auto metrics = server.metrics();
  const double ended = metrics.at("flexq_requests_ended_total{outcome=\"finished\"}") +
                       metrics.at("flexq_requests_ended_total{outcome=\"cancelled\"}");
  CHECK(ended == metrics.at("flexq_requests_submitted_total"));
  CHECK(metrics.at("flexq_requests_ended_total{outcome=\"failed\"}") == 0);
}

TEST_CASE("a drain answers what is under way, and nothing else") {
  ServerProcess server({kWikiTiny, "--sequences", "4"});
  constexpr int kStreams = 6;
  std::vector<std::thread> clients;
  std::atomic<int> n_done = 0;
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back([&server, &n_done] {
      const httplib::Result result = server.client().Post(
          "/v1/completions",
          Json{{"prompt", "x"}, {"max_tokens", 480}, {"ignore_eos", true}, {"stream", true}}.dump(),
          "application/json");
      REQUIRE(result);
      CHECK(stream_events(result->body).back() == "[DONE]");
      ++n_done;
    });
  }
  server.wait_for_metric("flexq_requests_submitted_total", kStreams);
  server.process().send_signal(SIGTERM);
  const ToolResult result = server.process().wait();
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  for (std::thread& thread : clients)
    thread.join();
  CHECK(n_done == kStreams);
  CHECK(!server.client().Get("/health"));
}

TEST_CASE("what does not end in time is cut off; a second signal ends at once") {
  ServerProcess server({slow_model(), "--drain-seconds", "0.2"});
  std::thread client([&server] {
    const httplib::Result result =
        server.client().Post("/v1/completions", endless(true).dump(), "application/json");
    REQUIRE(result);
    const Json last = Json::parse(stream_events(result->body).back());
    CHECK(last["error"]["type"] == "service_unavailable_error");
  });
  std::thread whole([&server] {
    const httplib::Result result =
        server.client().Post("/v1/completions", endless(false).dump(), "application/json");
    REQUIRE(result);
    CHECK(result->status == 503);
  });
  server.wait_for_metric("flexq_requests_running", 2);
  CHECK(server.stop().exit_code == 0);
  client.join();
  whole.join();

  ServerProcess stubborn({slow_model(), "--drain-seconds", "1000"});
  RawConnection connection(stubborn.port());
  connection.send(post_bytes("/v1/completions", endless(true).dump()));
  stubborn.wait_for_metric("flexq_requests_running", 1);
  stubborn.process().send_signal(SIGTERM);
  while (httplib::Client("127.0.0.1", stubborn.port()).Get("/health"))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(stubborn.stop().exit_code == 128 + SIGTERM);
}

TEST_CASE("new models take over without a request lost") {
  TemporaryDirectory directory;
  const std::string path = directory.file("a.flexq");
  REQUIRE(run_tool({"quantize", kWikiTiny, "-o", path, "--policy", "w6a16"}).exit_code == 0);
  REQUIRE(run_tool({"quantize", kWikiTiny, "-o", directory.file("b.flexq"), "--policy", "w8a16"})
              .exit_code == 0);
  ServerProcess server({path, "--api-key", "key", "--cache-tokens", "2048"});
  const httplib::Headers key = {{"Authorization", "Bearer key"}};
  std::atomic<bool> is_over = false;
  std::atomic<int> n_answers = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      httplib::Client client = server.client();
      for (int k = i; !is_over; ++k) {
        const httplib::Result result =
            client.Post("/v1/completions", key, mixed_request(k).dump(), "application/json");
        REQUIRE(result);
        CHECK_MESSAGE(result->status == 200, result->body);
        ++n_answers;
      }
    });
  }
  const auto reload = [&](const Json& body) {
    const httplib::Result result =
        server.client().Post("/admin/reload", key, body.dump(), "application/json");
    REQUIRE(result);
    return result->status;
  };
  const auto n_reloads = [&] {
    return server.metrics(key).at("flexq_model_reloads_total{result=\"done\"}");
  };
  CHECK(server.client().Post("/admin/reload", "{}", "application/json")->status == 401);
  CHECK(reload({{"path", "b.flexq"}}) == 200);
  CHECK(server.metrics(key).contains(R"(flexq_model_info{model="a",policy="w8a16",device="cpu"})"));
  CHECK(reload({{"path", path}}) == 200);
  CHECK(reload(Json::object()) == 200);
  for (const char* bad : {"../b.flexq", "/etc/passwd", "none.flexq", ".", "..", "b.flexq/"}) {
    CAPTURE(bad);
    CHECK(reload({{"path", bad}}) >= 400);
  }
  CHECK(n_reloads() == 3);
  server.process().send_signal(SIGHUP);
  while (n_reloads() < 4)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  // A damaged file: the model stays.
  std::string bytes = read_whole_file(path);
  bytes[bytes.size() / 2] = static_cast<char>(~bytes[bytes.size() / 2]);
  write_whole_file(directory.file("c.flexq"), bytes);
  CHECK(reload({{"path", "c.flexq"}}) == 500);
  CHECK(server.metrics(key).at("flexq_model_reloads_total{result=\"failed\"}") >= 1);
  const int n_before = n_answers;
  while (n_answers < n_before + 16)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  is_over = true;
  for (std::thread& thread : clients)
    thread.join();
  // A client has its answer before the engine's step is over and counted.
  auto metrics = server.metrics(key);
  const auto n_counted = [&] {
    return metrics.at("flexq_requests_ended_total{outcome=\"finished\"}");
  };
  for (int i = 0; i < 1000 && n_counted() < n_answers; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    metrics = server.metrics(key);
  }
  CHECK(n_counted() == n_answers.load());
  CHECK(metrics.at("flexq_kv_pages_used") == 0);
  // One engine's pages: those of the models before are freed.
  CHECK(metrics.at("flexq_kv_pages") == 2048 / 16);
}

TEST_CASE("the access log has a line for every request, and no text of it") {
  TemporaryDirectory directory;
  const std::string path = directory.file("log");
  ServerProcess server({kWikiTiny, "--access-log", path});
  // A client has its answer before its line is written.
  const auto wait_for_lines = [&](int64_t n) {
    for (int i = 0; i < 1000; ++i) {
      const std::string log = read_whole_file(path);
      if (std::count(log.begin(), log.end(), '\n') >= n) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  };
  const Json answer =
      server.post("/v1/completions", {{"prompt", "Secret words"}, {"max_tokens", 3}});
  wait_for_lines(1);
  CHECK(server.client().Get("/nowhere?x=1")->status == 404);
  wait_for_lines(2);
  {
    RawConnection connection(server.port());
    connection.send(post_bytes("/v1/completions", endless(true).dump()));
    connection.receive(300);
  }
  CHECK(server.stop().exit_code == 0);
  const std::string log = read_whole_file(path);
  CHECK(log.find("Secret") == std::string::npos);
  std::vector<Json> lines;
  std::istringstream stream(log);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(Json::parse(line));
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["method"] == "POST");
  CHECK(lines[0]["path"] == "/v1/completions");
  CHECK(lines[0]["status"] == 200);
  CHECK(lines[0]["remote"] == "127.0.0.1");
  CHECK(lines[0]["completion_tokens"] == answer["usage"]["completion_tokens"]);
  CHECK(lines[0]["prompt_tokens"] == answer["usage"]["prompt_tokens"]);
  CHECK(lines[0]["bytes"] > 100);
  CHECK(lines[0]["ttft_ms"] <= lines[0]["duration_ms"]);
  CHECK("cmpl-" + lines[0]["request_id"].get<std::string>() == answer["id"]);
  CHECK(lines[0]["time"].get<std::string>().size() == 24);
  CHECK(lines[1]["status"] == 404);
  CHECK(lines[1]["path"] == "/nowhere");
  CHECK(!lines[1].contains("prompt_tokens"));
}
