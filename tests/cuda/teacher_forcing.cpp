#include "cuda/teacher_forcing.h"

#include <map>

#include "base/checked.h"
#include "bundle/bundle_reader.h"
#include "device/cpu/cpu_workspace.h"
#include "device/device_registry.h"
#include "model/llama_model.h"
#include "model/rope_table.h"
#include "runtime/runtime_fixtures.h"

namespace flexq::test {
namespace {

// Weight codes of the quantized tensors by name.
std::map<std::string, LayerInput> quantized_layers(Bundle& bundle) {
  std::map<std::string, LayerInput> layers;
  PieceBuffer buffer;
  for (size_t i = 0; i < bundle.tensors().size(); ++i) {
    const StoredTensor& tensor = bundle.tensors()[i];
    if (!is_grouped(tensor.format)) continue;
    LayerInput layer;
    layer.name = tensor.spec.name;
    layer.format = tensor.format;
    layer.activation_bits = tensor.activation_bits;
    layer.n_rows = tensor.spec.rows;
    layer.n_cols = tensor.spec.cols;
    const auto index = static_cast<int64_t>(i);
    for (int64_t p = 0; p < bundle.n_pieces(index); ++p) {
      WeightPiece piece;
      require_ok(bundle.read_piece(index, p, buffer, &piece));
      const auto* codes = reinterpret_cast<const int8_t*>(piece.values);
      layer.weights.insert(layer.weights.end(), codes, codes + piece.n_rows * layer.n_cols);
    }
    layers.emplace(layer.name, std::move(layer));
  }
  return layers;
}

// The tokens of one sequence from its first position on, as a forward pass takes them.
struct OneSequence {
  OneSequence(const std::vector<int32_t>& tokens, const ExecutorShape& shape,
              const RopeTable& rope) {
    const auto half = static_cast<size_t>(shape.head_dim / 2);
    cos.resize(tokens.size() * half);
    sin.resize(tokens.size() * half);
    sequences.resize(tokens.size());
    for (size_t t = 0; t < tokens.size(); ++t) {
      positions.push_back(static_cast<int32_t>(t));
      rope.angles(positions[t], &cos[t * half], &sin[t * half]);
    }
    for (int32_t page = 0; page < shape.pages_per_sequence(); ++page)
      pages.push_back(page);
    batch.n_tokens = static_cast<int32_t>(tokens.size());
    batch.tokens = tokens.data();
    batch.positions = positions.data();
    batch.sequences = sequences.data();
    batch.block_tables = pages.data();
    batch.rope_cos = cos.data();
    batch.rope_sin = sin.data();
  }
  std::vector<int32_t> positions, sequences, pages;
  std::vector<float> cos, sin;
  ForwardBatch batch;
};

// A model on the CPU, one executor and its memory.
class CpuPass {
 public:
  CpuPass(Bundle& bundle, const std::vector<int32_t>& tokens)
      : tokens_(tokens), device_(value_of(open_device("cpu", {}))) {
    model_ =
        value_of(LlamaModel::load(bundle, device_, pool_, [](int64_t, int64_t) { return false; }));
    const auto n_tokens = static_cast<int32_t>(tokens.size());
    shape_ = executor_shape(model_->config(), model_->tensors());
    shape_.context_tokens = n_tokens;
    shape_.n_sequences = 1;
    shape_.chunk_tokens = n_tokens;
    shape_.n_outputs = 1;
    const int64_t bytes = value_of(device_->workspace_bytes(shape_));
    workspace_ = value_of(HostBuffer::allocate(bytes, "workspace"));
    pages_ =
        value_of(HostBuffer::allocate(shape_.pages_per_sequence() * page_bytes(shape_), "pages"));
    // The same function that carves the executor's buffers says where it keeps quantized inputs.
    value_of(carve_cpu_workspace(shape_, workspace_.data(), &buffers_));
    executor_ = value_of(device_->create_executor(shape_, workspace_.span(), pages_.span(), pool_));
  }

  // Calls see(layer, kind) after every step that quantized an input, while it is still there.
  void run(FunctionRef<void(int32_t, LinearKind)> see) {
    const OneSequence sequence(tokens_, shape_, RopeTable(model_->config()));
    require_ok(executor_->begin(sequence.batch));
    require_ok(executor_->embed(model_->embedding()));
    int32_t index = 0;
    for (const DeviceLayer& layer : model_->layers()) {
      require_ok(executor_->attention_in(layer, index));
      for (const LinearKind kind : {LinearKind::kQ, LinearKind::kK, LinearKind::kV})
        see(index, kind);
      require_ok(executor_->attention(index));
      require_ok(executor_->attention_out(layer));
      see(index, LinearKind::kO);
      require_ok(executor_->ffn_in(layer));
      see(index, LinearKind::kGate);
      see(index, LinearKind::kUp);
      require_ok(executor_->ffn_out(layer));
      see(index, LinearKind::kDown);
      ++index;
    }
  }

  // The quantized input that is in the workspace now, of a layer with n_cols inputs.
  std::vector<int8_t> input_codes(int64_t n_cols) const {
    const int64_t row = ceil_div(n_cols, kGroupSize) * kGroupSize;
    return {buffers_.codes, buffers_.codes + row * static_cast<int64_t>(tokens_.size())};
  }
  const LlamaModel& model() const { return *model_; }

 private:
  const std::vector<int32_t>& tokens_;
  ThreadPool pool_{2};
  std::shared_ptr<Device> device_;
  std::unique_ptr<LlamaModel> model_;
  ExecutorShape shape_;
  HostBuffer workspace_;
  HostBuffer pages_;
  CpuWorkspace buffers_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace

std::vector<LayerInput> teacher_forced_inputs(const std::string& bundle_path,
                                              const std::vector<int32_t>& tokens) {
  const std::unique_ptr<Bundle> bundle =
      value_of(Bundle::open(value_of(open_file_source(bundle_path)), {}));
  std::map<std::string, LayerInput> layers = quantized_layers(*bundle);
  CpuPass pass(*bundle, tokens);
  std::vector<LayerInput> inputs;
  pass.run([&](int32_t layer_index, LinearKind kind) {
    for (const StoredTensor& tensor : pass.model().tensors()) {
      if (tensor.spec.role != TensorRole::kLinear || tensor.spec.layer != layer_index ||
          tensor.spec.linear_kind != kind)
        continue;
      LayerInput layer = std::move(layers.at(tensor.spec.name));
      layer.codes = pass.input_codes(layer.n_cols);
      inputs.push_back(std::move(layer));
    }
  });
  return inputs;
}

}  // namespace flexq::test
