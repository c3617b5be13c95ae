// flexq bench load: how fast a bundle is verified and loaded, against hashing and decoding alone.
#include <fcntl.h>
#include <flexq_private.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <vector>

#include "commands.h"
#include "interrupt.h"
#include "memory_bandwidth.h"
#include "terminal_output.h"
#include "text_format.h"
#include "warm_memory.h"

namespace flexq_tool {
namespace {

struct LoadCommand {
  CommonOptions common;
  std::string bundle;
  int32_t n_repeats = 3;
  bool cold = false;
};

struct Load {
  double seconds = 0;  // 0: not done
  flexq_load_times times = {};
};

struct LoadResult {
  int64_t stored_bytes = 0;
  flexq_model_info model = {};
  double read_bandwidth = 0;
  flexq_load_floor floor = {};
  double verify_seconds = 0;  // the best round's
  Load fresh;                 // likewise
  Load warm;                  // likewise, where weights are in host memory
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
// Keeps what it measures in `load` where it was faster.
int time_load(const LoadCommand& command, Load& load, flexq_model_info& info) {
  const auto begin = Clock::now();
  Model model;
  if (const int code = load_model(command.bundle, command.common, model); code != kExitOk)
    return code;
  const double seconds = seconds_since(begin);
  if (load.seconds > 0 && load.seconds <= seconds) return kExitOk;
  load.seconds = seconds;
  load.times.struct_size = sizeof load.times;
  flexq_status status = flexq_private_load_times(model.get(), &load.times);
  if (status == FLEXQ_OK) status = flexq_model_get_info(model.get(), &info);
  return status == FLEXQ_OK ? kExitOk : report_failure(command.bundle, status);
}

int measure(const LoadCommand& command, LoadResult& result) {
  WarmMemory warm;
  Bundle bundle;
  if (const int code = open_bundle(command.bundle, command.common, bundle); code != kExitOk)
    return code;
  std::string text;
  if (const int code = read_bundle_json(command.bundle, bundle, text); code != kExitOk) return code;
  result.stored_bytes = nlohmann::json::parse(text, nullptr, false).value("size_bytes", int64_t{0});
  result.model.struct_size = sizeof result.model;
  for (int32_t round = 0; round < command.n_repeats; ++round) {
    const auto prepare = [&] { return command.cold ? drop_from_cache(command.bundle) : kExitOk; };
    double seconds = 0;
    if (const int code = prepare(); code != kExitOk) return code;
    if (const int code = time_verify(command, seconds); code != kExitOk) return code;
    result.verify_seconds = round == 0 ? seconds : std::min(result.verify_seconds, seconds);

    // The floor in every round too, since others may use the machine; right before loading, which
    // so finds memory that a hypervisor has not taken back.
    flexq_load_floor floor = {};
    floor.struct_size = sizeof floor;
    if (const int code = prepare(); code != kExitOk) return code;
    const flexq_status status =
        flexq_private_load_floor(bundle.get(), command.common.n_threads, &floor);
    if (status != FLEXQ_OK) return report_failure(command.bundle, status);
    if (const int code = time_load(command, result.fresh, result.model); code != kExitOk)
      return code;
    result.floor.n_threads = floor.n_threads;
    result.floor.hash_rate = std::max(result.floor.hash_rate, floor.hash_rate);
    result.floor.decode_rate = std::max(result.floor.decode_rate, floor.decode_rate);
    result.floor.fresh_memory_rate =
        std::max(result.floor.fresh_memory_rate, floor.fresh_memory_rate);
    if (std::string_view(result.model.device) == "cpu") {
      warm.resize(result.model.weight_bytes);
      warm.offer();
      if (const int code = prepare(); code != kExitOk) return code;
      if (const int code = time_load(command, result.warm, result.model); code != kExitOk)
        return code;
    }
    if (round == 0) {
      result.floor.first_touch_rate = floor.first_touch_rate;
      result.read_bandwidth = ReadBandwidth(floor.n_threads).sample();
    }
    if (interrupt_signal() != 0) return report_interrupt();
  }
  return kExitOk;
}

// Hashing and decoding alone.
double verify_floor(const LoadResult& result) {
  const double bytes = static_cast<double>(result.stored_bytes) / result.floor.n_threads;
  const double decode_rate = result.floor.decode_rate;
  return bytes / result.floor.hash_rate + (decode_rate > 0 ? bytes / decode_rate : 0);
}
// And writing the weights to fresh memory.
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

std::string stage_text(const Load& load, double seconds) {
  const double thread_seconds = load.seconds * load.times.n_threads;
  return fixed(seconds, 2) + " (" + fixed(100 * seconds / thread_seconds, 1) + "%)";
}

std::string load_text(const LoadCommand& command, const LoadResult& result) {
  const bool has_warm = result.warm.seconds > 0;
  Table table({"", "seconds", "stored GB/s", "floor", "ratio"});
  const auto add = [&](const char* name, double seconds, double floor) {
    table.add({name, fixed(seconds, 2), fixed(rate(result, seconds) / 1e9, 2), fixed(floor, 2),
               fixed(seconds / floor, 2)});
  };
  add("verify", result.verify_seconds, verify_floor(result));
  if (has_warm) add("load, warm memory", result.warm.seconds, verify_floor(result));
  add(has_warm ? "load, fresh memory" : "load", result.fresh.seconds, load_floor(result));

  std::vector<std::string> columns = {"thread seconds by stage"};
  if (has_warm) columns.emplace_back("warm memory");
  columns.emplace_back(has_warm ? "fresh memory" : "load");
  Table parts(columns);
  const std::vector<Stage> warm_stages = stages(result.warm.times);
  const std::vector<Stage> fresh_stages = stages(result.fresh.times);
  for (size_t i = 0; i < fresh_stages.size(); ++i) {
    std::vector<std::string> row = {fresh_stages[i].name};
    if (has_warm) row.push_back(stage_text(result.warm, warm_stages[i].seconds));
    row.push_back(stage_text(result.fresh, fresh_stages[i].seconds));
    parts.add(row);
  }
  const auto gigabytes = [](double bytes_per_second) { return fixed(bytes_per_second / 1e9, 2); };
  return one_line(command.bundle) + ": " + format_bytes(result.stored_bytes) + ", " +
         std::to_string(result.fresh.times.n_threads) + " threads, " + result.model.device +
         (command.cold ? ", not in the page cache\n" : "\n") + table.text() + "\n" + parts.text() +
         "\nGB/s per thread, of stored bytes: SHA-256 " + gigabytes(result.floor.hash_rate) +
         ", zstd " + gigabytes(result.floor.decode_rate) + "\nGB/s of all threads: fresh memory " +
         gigabytes(result.floor.fresh_memory_rate) + " (at the first touch " +
         gigabytes(result.floor.first_touch_rate) + "), memory read at " +
         gigabytes(result.read_bandwidth) + "\n";
}

nlohmann::ordered_json load_json(const LoadCommand& command, const LoadResult& result) {
  const auto timed = [&](double seconds, double floor) {
    return nlohmann::ordered_json{{"seconds", seconds},
                                  {"stored_bytes_per_second", rate(result, seconds)},
                                  {"floor_seconds", floor},
                                  {"floor_ratio", seconds / floor}};
  };
  const auto loaded = [&](const Load& load, double floor) {
    nlohmann::ordered_json json = timed(load.seconds, floor);
    for (const Stage& stage : stages(load.times))
      json["thread_seconds"][stage.name] = stage.seconds;
    return json;
  };
  nlohmann::ordered_json json = {{"stored_bytes", result.stored_bytes},
                                 {"device", result.model.device},
                                 {"threads", result.fresh.times.n_threads},
                                 {"cold", command.cold},
                                 {"verify", timed(result.verify_seconds, verify_floor(result))},
                                 {"load", loaded(result.fresh, load_floor(result))},
                                 {"load_warm", nullptr},
                                 {"hash_bytes_per_second", result.floor.hash_rate},
                                 {"decode_stored_bytes_per_second", result.floor.decode_rate},
                                 {"fresh_memory_bytes_per_second", result.floor.fresh_memory_rate},
                                 {"first_touch_bytes_per_second", result.floor.first_touch_rate},
                                 {"read_bandwidth_bytes_per_second", result.read_bandwidth}};
  if (result.warm.seconds > 0) json["load_warm"] = loaded(result.warm, verify_floor(result));
  return json;
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
    "is in the page cache, unless --cold drops it before every measurement. On the CPU a model is\n"
    "loaded twice: into memory that the system hands out meanwhile (fresh), as every program\n"
    "does, and into memory that this process has written to before (warm), which leaves the\n"
    "system's share out. A virtual machine's host may hand out memory more slowly than all else\n"
    "takes; the rate at the first touch shows it.\n"
    "Stages are sums over all threads: reading the file, SHA-256 of what is stored, zstd, the\n"
    "check of every value, storing the packed weights. The floor of verifying is hashing and\n"
    "decoding alone: the stored bytes at the speed at which all threads hash and decode one chunk\n"
    "that stays in their caches; that of loading into fresh memory adds writing as many bytes to\n"
    "fresh memory, the second time. All is measured in the same run, the best of all rounds.\n"
    "Examples:\n"
    "  flexq bench load llama-2-7b.flexq\n"
    "  flexq bench load llama-2-7b.flexq --threads 2 --repeat 5 --json\n"
    "  flexq quantize --shape llama-2-7b -o random.flexq && flexq bench load random.flexq\n"
    "JSON: {\"stored_bytes\", \"device\", \"threads\", \"cold\", \"verify\": {\"seconds\",\n"
    "\"stored_bytes_per_second\", \"floor_seconds\", \"floor_ratio\"}, \"load\": {the same,\n"
    "\"thread_seconds\": {\"read\", \"hash\", \"decode\", \"check\", \"store\"}}, \"load_warm\": "
    "{the\n"
    "same, or null on other devices}, \"hash_bytes_per_second\",\n"
    "\"decode_stored_bytes_per_second\" (of one thread), \"fresh_memory_bytes_per_second\",\n"
    "\"first_touch_bytes_per_second\", \"read_bandwidth_bytes_per_second\" (of all)}";

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
