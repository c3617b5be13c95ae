package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.ModelStruct;
import org.flexq.internal.Utf8;

/**
 * Shape and size of a loaded model.
 *
 * @param nLayers transformer blocks
 * @param nEmbd width of the hidden state
 * @param nHeads attention heads
 * @param nKvHeads heads of keys and values
 * @param headDim width of a head
 * @param nFf width of the feed-forward layer
 * @param nVocab tokens in the vocabulary
 * @param contextTokens what the model was trained for
 * @param bosTokenId the token that begins a text; -1: none
 * @param nThreads of this model's pool
 * @param nParameters of all tensors
 * @param weightBytes device memory that the weights take
 * @param decodeWeightBytes weights read to decode one token: all but the embedding
 * @param bitsPerWeight of the quantized linear layers in device memory, scales included; 16 or 32
 *     where nothing is quantized
 * @param policy "flexq", "w6a6", ..., "none" for a checkpoint
 * @param device "cpu", "cuda:0"
 * @param kernels the kernel set, for example "avx512vnni"
 */
public record ModelInfo(
    int nLayers,
    int nEmbd,
    int nHeads,
    int nKvHeads,
    int headDim,
    int nFf,
    int nVocab,
    int contextTokens,
    int bosTokenId,
    int nThreads,
    long nParameters,
    long weightBytes,
    long decodeWeightBytes,
    double bitsPerWeight,
    String policy,
    String device,
    String kernels) {

  static ModelInfo of(long model) {
    try (ModelStruct info = new ModelStruct()) {
      FlexqNative.flexq_model_get_info(model, info);
      return new ModelInfo(
          info.getN_layers(),
          info.getN_embd(),
          info.getN_heads(),
          info.getN_kv_heads(),
          info.getHead_dim(),
          info.getN_ff(),
          info.getN_vocab(),
          info.getContext_tokens(),
          info.getBos_token_id(),
          info.getN_threads(),
          info.getN_parameters(),
          info.getWeight_bytes(),
          info.getDecode_weight_bytes(),
          info.getBits_per_weight(),
          Utf8.string(info.getPolicy()),
          Utf8.string(info.getDevice()),
          Utf8.string(info.getKernels()));
    }
  }
}
