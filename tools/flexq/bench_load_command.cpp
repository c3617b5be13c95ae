// flexq bench load: how fast a bundle is verified and loaded, against hashing and decoding alone.
#include <fcntl.h>
#include <flexq_private.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "memory_bandwidth.h"
#include "terminal_output.h"
#include "text_format.h"

namespace flexq_tool {
namespace {

struct LoadCommand {
  CommonOptions common;
  std::string bundle;
  int32_t n_repeats = 3;
  bool cold = false;
};

struct LoadResult {
  int64_t stored_bytes = 0;
  flexq_model_info model = {};
  double read_bandwidth = 0;
  flexq_load_floor floor = {};
  double verify_seconds = 0;  // the best round's
  double load_seconds = 0;    // likewise, with
  flexq_load_times times = {};
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Drops the file from the page cache, as far as nobody else uses it.
int drop_from_cache(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return report_failure(path, std::strerror(errno));
  fdatasync(descriptor);
  const int error = posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  close(descriptor);
  return error == 0 ? kExitOk : report_failure(path, std::strerror(error));
}

// Both from opening the file to the end of the work.
int time_verify(const LoadCommand& command, double& seconds) {
  const auto begin = Clock::now();
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk)
    return code;
  const flexq_status status = flexq_bundle_verify(
      bundle.get(), command.common.n_threads,
      [](int64_t, int64_t, void*) -> int32_t { return interrupt_signal() != 0; }, nullptr);
  if (status != FLEXQ_OK) return report_failure(command.bundle, status);
  seconds = seconds_since(begin);
  return kExitOk;
}
int time_load(const LoadCommand& command, LoadResult& result) {
  const auto begin = Clock::now();
  Model model;
  if (const int code = load_model(command.bundle, command.common, model); code != kExitOk)
    return code;
  const double seconds = seconds_since(begin);
  if (result.load_seconds > 0 && result.load_seconds <= seconds) return kExitOk;
  result.load_seconds = seconds;
  result.times.struct_size = sizeof result.times;
  flexq_status status = flexq_private_load_times(model.get(), &result.times);
  if (status == FLEXQ_OK) status = flexq_model_get_info(model.get(), &result.model);
  return status == FLEXQ_OK ? kExitOk : report_failure(command.bundle, status);
}

int measure(const LoadCommand& command, LoadResult& result) {
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk)
    return code;
  std::string text;
  if (const int code = read_bundle_json(command.bundle, bundle, text); code != kExitOk) return code;
  result.stored_bytes = nlohmann::json::parse(text, nullptr, false).value("size_bytes", int64_t{0});
  result.model.struct_size = sizeof result.model;
  for (int32_t round = 0; round < command.n_repeats; ++round) {
    // The floor in every round too, since others may use the machine.
    flexq_load_floor floor = {};
    floor.struct_size = sizeof floor;
    const flexq_status status =
        flexq_private_load_floor(bundle.get(), command.common.n_threads, &floor);
    if (status != FLEXQ_OK) return report_failure(command.bundle, status);
    result.floor.n_threads = floor.n_threads;
    result.floor.hash_rate = std::max(result.floor.hash_rate, floor.hash_rate);
    result.floor.decode_rate = std::max(result.floor.decode_rate, floor.decode_rate);
    result.floor.fresh_memory_rate =
        std::max(result.floor.fresh_memory_rate, floor.fresh_memory_rate);
    if (round == 0) result.read_bandwidth = ReadBandwidth(floor.n_threads).sample();

    const auto prepare = [&] { return command.cold ? drop_from_cache(command.bundle) : kExitOk; };
    double seconds = 0;
    if (const int code = prepare(); code != kExitOk) return code;
    if (const int code = time_verify(command, seconds); code != kExitOk) return code;
    result.verify_seconds = round == 0 ? seconds : std::min(result.verify_seconds, seconds);
    if (const int code = prepare(); code != kExitOk) return code;
    if (const int code = time_load(command, result); code != kExitOk) return code;
    if (interrupt_signal() != 0) return report_interrupt();
  }
  return kExitOk;
}

// Hashing and decoding alone; for loading, writing the weights to fresh memory as well.
double verify_floor(const LoadResult& result) {
  const double bytes = static_cast<double>(result.stored_bytes) / result.floor.n_threads;
  const double decode_rate = result.floor.decode_rate;
  return bytes / result.floor.hash_rate + (decode_rate > 0 ? bytes / decode_rate : 0);
}
double load_floor(const LoadResult& result) {
  return verify_floor(result) +
         static_cast<double>(result.model.weight_bytes) / result.floor.fresh_memory_rate;
}

double rate(const LoadResult& result, double seconds) {
  return static_cast<double>(result.stored_bytes) / seconds;
}

struct Stage {
  const char* name;
  double seconds;
};
std::vector<Stage> stages(const flexq_load_times& times) {
  return {{"read", times.read_seconds},
          {"hash", times.hash_seconds},
          {"decode", times.decode_seconds},
          {"check", times.check_seconds},
          {"store", times.store_seconds}};
}

std::string load_text(const LoadCommand& command, const LoadResult& result) {
  Table table({"", "seconds", "stored GB/s", "floor", "ratio"});
  const auto add = [&](const char* name, double seconds, double floor) {
    table.add({name, fixed(seconds, 2), fixed(rate(result, seconds) / 1e9, 2), fixed(floor, 2),
               fixed(seconds / floor, 2)});
  };
  add("verify", result.verify_seconds, verify_floor(result));
  add("load", result.load_seconds, load_floor(result));
  const double thread_seconds = result.load_seconds * result.times.n_threads;
  Table parts({"load, by stage", "thread seconds", "share"});
  for (const Stage& stage : stages(result.times))
    parts.add({stage.name, fixed(stage.seconds, 2),
               fixed(100 * stage.seconds / thread_seconds, 1) + "%"});
  return one_line(command.bundle) + ": " + format_bytes(result.stored_bytes) + ", " +
         std::to_string(result.times.n_threads) + " threads, " + result.model.device +
         (command.cold ? ", not in the page cache\n" : "\n") + table.text() + "\n" + parts.text() +
         "\nper thread: SHA-256 " + fixed(result.floor.hash_rate / 1e9, 2) + " GB/s, zstd " +
         fixed(result.floor.decode_rate / 1e9, 2) +
         " GB/s of stored bytes; together: fresh memory " +
         fixed(result.floor.fresh_memory_rate / 1e9, 1) + " GB/s, memory read at " +
         fixed(result.read_bandwidth / 1e9, 1) + " GB/s\n";
}

nlohmann::ordered_json load_json(const LoadCommand& command, const LoadResult& result) {
  nlohmann::ordered_json stage_seconds;
  for (const Stage& stage : stages(result.times))
    stage_seconds[stage.name] = stage.seconds;
  const auto timed = [&](double seconds, double floor) {
    return nlohmann::ordered_json{{"seconds", seconds},
                                  {"stored_bytes_per_second", rate(result, seconds)},
                                  {"floor_seconds", floor},
                                  {"floor_ratio", seconds / floor}};
  };
  return {{"stored_bytes", result.stored_bytes},
          {"device", result.model.device},
          {"threads", result.times.n_threads},
          {"cold", command.cold},
          {"verify", timed(result.verify_seconds, verify_floor(result))},
          {"load", timed(result.load_seconds, load_floor(result))},
          {"load_thread_seconds", stage_seconds},
          {"hash_bytes_per_second", result.floor.hash_rate},
          {"decode_stored_bytes_per_second", result.floor.decode_rate},
          {"fresh_memory_bytes_per_second", result.floor.fresh_memory_rate},
          {"read_bandwidth_bytes_per_second", result.read_bandwidth}};
}

int bench_load(const LoadCommand& command) {
  LoadResult result;
  if (const int code = measure(command, result); code != kExitOk) return code;
  if (command.common.json) return print_json(load_json(command, result));
  return print(load_text(command, result));
}

constexpr char kFooter[] =
    "Verifying reads the whole bundle and checks all of it; loading does the same and packs the\n"
    "weights for the device. Each counts from opening the file, the best of all rounds; the file\n"
    "is in the page cache, unless --cold drops it before every measurement. Stages are sums over\n"
    "all threads: reading the file, SHA-256 of what is stored, zstd, the check of every value,\n"
    "storing the packed weights into memory that the system hands out meanwhile. The floor of\n"
    "verifying is hashing and decoding alone: the stored bytes at the speed at which all threads\n"
    "hash and decode one chunk that stays in their caches; that of loading adds writing the\n"
    "weights' bytes to fresh memory. All is measured in the same run, the best of all rounds.\n"
    "Examples:\n"
    "  flexq bench load llama-2-7b.flexq\n"
    "  flexq bench load llama-2-7b.flexq --threads 2 --repeat 5 --json\n"
    "  flexq quantize --shape llama-2-7b -o random.flexq && flexq bench load random.flexq\n"
    "JSON: {\"stored_bytes\", \"device\", \"threads\", \"cold\", \"verify\": {\"seconds\",\n"
    "\"stored_bytes_per_second\", \"floor_seconds\", \"floor_ratio\"}, \"load\": {the same},\n"
    "\"load_thread_seconds\": {\"read\", \"hash\", \"decode\", \"check\", \"store\"},\n"
    "\"hash_bytes_per_second\", \"decode_stored_bytes_per_second\" (of one thread),\n"
    "\"fresh_memory_bytes_per_second\", \"read_bandwidth_bytes_per_second\" (of all)}";

}  // namespace

void add_bench_load_command(CLI::App& parent, Work& selected) {
  auto command = std::make_shared<LoadCommand>();
  CLI::App* app = parent.add_subcommand("load", "Speed of opening a bundle, by stage");
  app->add_option("MODEL", command->bundle, "Bundle (*.flexq)")->required()->type_name("");
  add_number(*app, "--repeat", command->n_repeats, "N", "Rounds; the best counts")
      ->check(integer_from(1, 1000));
  app->add_flag("--cold", command->cold, "Drop the file from the page cache before each load");
  command->common.device = "cpu";
  add_common_options(*app, command->common);
  app->footer(kFooter);
  app->callback([command, &selected] { selected = [command] { return bench_load(*command); }; });
}

}  // namespace flexq_tool
